"""The frameworks' clients as their users make them, pointed at the gateway by the environment alone."""

import agents
import pydantic_ai
import pytest
from langchain_anthropic import ChatAnthropic

from tests.support.gateway.process import Gateway


@pytest.fixture
def pointed(clients_gateway: Gateway, client_key: str, monkeypatch: pytest.MonkeyPatch) -> Gateway:
    """Set the environment variables that each framework reads."""
    for name in ("OPENAI", "ANTHROPIC"):
        monkeypatch.setenv(f"{name}_API_KEY", client_key)
    monkeypatch.setenv("OPENAI_BASE_URL", f"{clients_gateway.base_url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", clients_gateway.base_url)
    agents.set_tracing_disabled(True)
    return clients_gateway


@pytest.fixture
def chat_anthropic(pointed: Gateway, wire: str) -> ChatAnthropic:
    """Return LangChain's client of the Messages API."""
    return ChatAnthropic(model=f"{wire}-ok", max_retries=0, default_request_timeout=60)


@pytest.fixture
def responses_agent(pointed: Gateway, wire: str) -> "pydantic_ai.Agent[None, str]":
    """Return an agent of pydantic-ai on its default for OpenAI, which is the Responses API."""
    return pydantic_ai.Agent(f"openai:{wire}-ok")
