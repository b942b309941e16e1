"""LangChain's ChatOpenAI against the gateway: only its base URL and key change."""

from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, SecretStr

from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import EMBEDDING


class Answer(BaseModel):
    """The structured output."""

    text: str
    sure: bool


@tool
def weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


@pytest.fixture
def model(clients_gateway: Gateway, client_key: str, wire: str) -> ChatOpenAI:
    return ChatOpenAI(
        model=f"{wire}-ok",
        base_url=f"{clients_gateway.base_url}/v1",
        api_key=SecretStr(client_key),
        max_retries=0,
    )


def test_langchain_invoke_returns_message(model: ChatOpenAI, wire: str) -> None:
    response = model.invoke("hello")
    assert response.content == "You said: hello"
    assert response.response_metadata["model_name"] == f"{wire}-ok"
    assert isinstance(response, AIMessage)
    assert response.usage_metadata is not None
    assert response.usage_metadata["total_tokens"] == 6


def test_langchain_stream_yields_chunks(model: ChatOpenAI) -> None:
    whole: Any = None
    for chunk in model.stream("hello", stream_usage=True):
        whole = chunk if whole is None else whole + chunk
    assert isinstance(whole, AIMessageChunk)
    assert whole.content == "You said: hello"
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["total_tokens"] == 6


async def test_langchain_async_calls_succeed(model: ChatOpenAI) -> None:
    assert (await model.ainvoke("hello")).content == "You said: hello"
    assert "".join([str(chunk.content) async for chunk in model.astream("hello")]) == "You said: hello"


def test_langchain_tool_loop_completes(model: ChatOpenAI) -> None:
    able = model.bind_tools([weather])
    messages: list[Any] = [HumanMessage("call:weather")]
    asked = able.invoke(messages)
    [call] = asked.tool_calls
    assert call["name"] == "weather"
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage)
    final = able.invoke([*messages, asked, result])
    assert final.content == f"The tool said: sunny in {call['args']['city']}"


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_langchain_structured_output_is_parsed(model: ChatOpenAI, method: Any) -> None:
    response = model.with_structured_output(Answer, method=method).invoke("hello")
    assert isinstance(response, Answer)
    assert response.sure


def test_langchain_embeddings_return_vectors(clients_gateway: Gateway, client_key: str) -> None:
    embeddings = OpenAIEmbeddings(
        model=EMBEDDING,
        base_url=f"{clients_gateway.base_url}/v1",  # type: ignore[call-arg]  # an alias, which mypy does not see
        api_key=SecretStr(client_key),
        dimensions=4,
        check_embedding_ctx_length=False,
    )
    assert [len(vector) for vector in embeddings.embed_documents(["a", "b"])] == [4, 4]
