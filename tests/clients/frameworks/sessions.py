"""The frameworks on their defaults, pointed at the gateway by the environment alone, over each wire in WIRES.

A separate process: the frameworks keep their connections until it ends. Exit code 0 if every session did what it must.
"""

import asyncio
import os
from typing import Any

import agents
import pydantic_ai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def weather(city: str) -> str:
    """Look up the weather of a city."""
    return f"sunny in {city}"


async def openai_agents(model: str) -> None:
    """Run a tool and a hand-off, which the Agents SDK sends to the Responses API."""
    tools: list[Any] = [agents.function_tool(weather)]
    helper = agents.Agent(name="helper", model=model, tools=tools)
    done = await agents.Runner.run(helper, "call:weather")
    assert done.final_output == "The tool said: sunny in text", done.final_output
    usage = done.context_wrapper.usage
    assert usage.requests == 2, usage
    assert min(usage.input_tokens, usage.output_tokens) > 0, usage
    desk = agents.Agent(name="desk", model=model, handoffs=[agents.Agent(name="expert", model=model, tools=tools)])
    passed = await agents.Runner.run(desk, "call:transfer_to_expert")
    assert passed.last_agent.name == "expert", passed.last_agent.name
    front = agents.Agent(name="front", model=model, handoffs=[agents.Agent(name="speaker", model=model)])
    spoken = await agents.Runner.run(front, "call:transfer_to_speaker")
    assert spoken.last_agent.name == "speaker", spoken.last_agent.name


async def pydantic_agents(model: str) -> None:
    """Run text, its usage, a tool and a stream over the default API of both kinds of model."""
    for name in (f"openai:{model}", f"anthropic:{model}"):
        said = await pydantic_ai.Agent(name).run("hello")
        assert said.output == "You said: hello", said.output
        assert (said.usage.input_tokens, said.usage.output_tokens) == (2, 4), said.usage
        done = await pydantic_ai.Agent(name, tools=[weather]).run("call:weather")
        assert done.output == "The tool said: sunny in text", done.output
        async with pydantic_ai.Agent(name).run_stream("hello") as stream:
            assert await stream.get_output() == "You said: hello"


async def langchain(model: str) -> None:
    """Run text, its usage, a stream and a tool over Responses and Messages."""
    clients: list[Any] = [ChatOpenAI(model=model, use_responses_api=True), ChatAnthropic(model=model)]
    for client in clients:
        said = await client.ainvoke("hello")
        assert said.text == "You said: hello", said.text
        assert said.usage_metadata["total_tokens"] == 6, said.usage_metadata
        assert "".join([chunk.text async for chunk in client.astream("hello")]) == "You said: hello"
        looked_up = tool(weather)
        able, messages = client.bind_tools([looked_up]), [HumanMessage("call:weather")]
        asked = await able.ainvoke(messages)
        [call] = asked.tool_calls
        assert (call["name"], call["args"]) == ("weather", {"city": "text"}), call
        final = await able.ainvoke([*messages, asked, looked_up.invoke(call)])
        assert final.text == "The tool said: sunny in text", final.text


async def main() -> None:
    """Run every session."""
    agents.set_tracing_disabled(True)
    for wire in os.environ["WIRES"].split(","):
        for session in (openai_agents, pydantic_agents, langchain):
            await session(f"{wire}-ok")
            print(f"{session.__name__} over {wire}")  # noqa: T201 - the test counts the lines


if __name__ == "__main__":
    asyncio.run(main())
