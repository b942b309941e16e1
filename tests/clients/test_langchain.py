"""LangChain's ChatOpenAI and OpenAIEmbeddings, as an application has them."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

from tests.clients.conftest import ALIAS, AZURE, CLAUDE, EMBEDDING
from tests.support.gateway import Gateway

MODELS = ("sim-ok", ALIAS, AZURE, CLAUDE)
Make = Callable[..., ChatOpenAI]


class Person(BaseModel):
    """Somebody."""

    name: str
    age: int


@tool
def weather(city: str) -> str:
    """What the weather is in a city."""
    return f"sunny in {city}"


@pytest.fixture
async def options(served: Gateway, api_key: str) -> AsyncIterator[dict[str, Any]]:
    """Where the gateway is, and connections that are closed in the end, which LangChain never does."""
    async with openai.DefaultAsyncHttpxClient() as http:
        yield {
            "base_url": f"{served.base_url}/v1", "api_key": api_key, "http_async_client": http, "max_retries": 0
        }  # fmt: skip


@pytest.fixture
def make(options: dict[str, Any]) -> Make:
    """Makes models that talk to the gateway."""
    return lambda name, **more: ChatOpenAI(model=name, **options, **more)


@pytest.mark.parametrize("name", MODELS)
async def test_an_answer_and_what_it_took(make: Make, name: str) -> None:
    answer = await make(name).ainvoke([("system", "Be brief."), ("user", "Hello there")])
    assert answer.text == "You said: Hello there"
    assert isinstance(answer, AIMessage)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 6
    assert answer.response_metadata["model_name"] == name


@pytest.mark.parametrize("name", MODELS)
async def test_a_stream_that_counts(make: Make, name: str) -> None:
    """LangChain asks for the usage by itself, but not of other base URLs."""
    whole: AIMessageChunk | None = None
    async for chunk in make(name, stream_usage=True).astream("Hello there"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.text == "You said: Hello there"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 6


@pytest.mark.parametrize("name", MODELS)
async def test_a_loop_of_tools(make: Make, name: str) -> None:
    model = make(name).bind_tools([weather])
    messages: list[BaseMessage] = [HumanMessage("call:weather")]
    asked = await model.ainvoke(messages)
    assert [call["name"] for call in asked.tool_calls] == ["weather"]
    messages.append(asked)
    for call in asked.tool_calls:
        result = await weather.ainvoke(call)
        assert isinstance(result, ToolMessage)
        messages.append(result)
    assert (await model.ainvoke(messages)).text.startswith("The tool said: sunny in")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_structured_output(make: Make, name: str, method: Any) -> None:
    model = make(name).with_structured_output(Person, method=method)
    assert isinstance(await model.ainvoke("Somebody"), Person)


async def test_embeddings(options: dict[str, Any]) -> None:
    """Without tiktoken, which would fetch its tables from elsewhere, the texts are sent as texts."""
    embeddings = OpenAIEmbeddings(model=EMBEDDING, dimensions=8, check_embedding_ctx_length=False, **options)
    one, two = await embeddings.aembed_documents(["Hello", "there"])
    assert len(one) == len(two) == 8
    assert one != two
    assert json.dumps(one)  # plain numbers
