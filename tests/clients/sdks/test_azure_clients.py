"""The official Azure clients: only their endpoint points to the gateway, and nothing else of their configuration
changes."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import EMBEDDING, HELLO
from tests.support.servers.node import PROJECT, run_node


@pytest.fixture
def azure(clients_gateway: Gateway, client_key: str) -> Iterator[openai.AzureOpenAI]:
    with openai.AzureOpenAI(
        azure_endpoint=clients_gateway.base_url, api_key=client_key, api_version="2024-10-21", max_retries=0
    ) as client:
        yield client


def test_azure_client_chats_with_each_deployment(azure: openai.AzureOpenAI, wire: str) -> None:
    done = azure.chat.completions.create(model=f"{wire}-ok", messages=HELLO)
    assert (done.model, done.choices[0].message.content) == (f"{wire}-ok", "You said: hello")


def test_azure_client_streams_chunks(azure: openai.AzureOpenAI, wire: str) -> None:
    chunks = azure.chat.completions.create(model=f"{wire}-ok", messages=HELLO, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "You said: hello"


def test_azure_client_gets_embeddings(azure: openai.AzureOpenAI) -> None:
    assert azure.embeddings.create(model=EMBEDDING, input=["a", "b"]).data[1].index == 1


def test_azure_client_lists_models(azure: openai.AzureOpenAI) -> None:
    names = [model.id for model in azure.models.list()]
    assert "openai-ok" in names
    assert azure.models.retrieve("openai-ok").id == "openai-ok"


@pytest.mark.parametrize("version", ["2023-05-15", "2025-04-01-preview", "preview", "latest"])
def test_every_api_version_is_accepted(clients_gateway: Gateway, client_key: str, version: str) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=clients_gateway.base_url, azure_deployment="openai-ok", api_key=client_key, api_version=version
    ) as client:
        done = client.chat.completions.create(model="a name that means nothing here", messages=HELLO)
    assert done.model == "openai-ok"


def test_entra_token_is_used_as_api_key(clients_gateway: Gateway, client_key: str) -> None:
    """With a token provider, the client sends Authorization instead of api-key."""
    with openai.AzureOpenAI(
        azure_endpoint=clients_gateway.base_url, azure_ad_token_provider=lambda: client_key, api_version="2024-10-21"
    ) as client:
        assert client.chat.completions.create(model="openai-ok", messages=HELLO).model == "openai-ok"


def test_v1_paths_work_below_openai_prefix(clients_gateway: Gateway, client_key: str) -> None:
    """Azure's v1 API is the plain client with the resource's /openai/v1 as base URL."""
    with openai.OpenAI(base_url=f"{clients_gateway.base_url}/openai/v1/", api_key=client_key) as client:
        assert client.chat.completions.create(model="openai-ok", messages=HELLO).model == "openai-ok"
        assert client.embeddings.create(model=EMBEDDING, input="a").data
        assert client.models.retrieve("openai-ok").id == "openai-ok"
        assert "openai-ok" in [model.id for model in client.models.list()]


def test_azure_client_gets_errors_in_openai_format(azure: openai.AzureOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        azure.chat.completions.create(model="gpt-9", messages=HELLO)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError, match="older completions are not offered here"):
        azure.completions.create(model="openai-ok", prompt="hello")


def test_npm_azure_client_passes_its_scenario(
    clients_gateway: Gateway, client_key: str, wire: str, node_modules: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"], "ENDPOINT": clients_gateway.base_url, "API_KEY": client_key, "WIRE": wire,
        "EMBEDDING": EMBEDDING,
    }  # fmt: skip
    output = run_node(PROJECT / "azure.mjs", environment)
    passed = re.search(r"pass (\d+)$", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) == 5, output
