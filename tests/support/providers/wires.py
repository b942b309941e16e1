"""Adapters for each wire format, created as from the config file, for the simulator or any other address."""

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, get_args

from apps.provider_simulator.server import ProviderSimulator
from platform_app.config import ProviderConfig
from platform_app.config.catalog import WireFormat
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.requests import Operation, UpstreamCall
from platform_app.llm.responses import ChatChunk, ModelResponse

KEY = "sk-contract-51f0a9c2"
MIB = 1024 * 1024
WIRES: tuple[WireFormat, ...] = get_args(WireFormat)
"""Every wire format that the config file accepts."""
_VERSIONS = {"azure": "2024-10-21"}


def url_of(wire: str, simulator: ProviderSimulator) -> str:
    """Return the simulator's base URL for a wire format."""
    return {
        "openai": simulator.base_url,
        "openai-responses": simulator.base_url,
        "azure": simulator.azure_url,
        "anthropic": simulator.anthropic_url,
    }[wire]


def provider_of(wire: str, base_url: str) -> dict[str, Any]:
    """Return a provider of the config file that speaks a wire format."""
    version = {"api_version": _VERSIONS[wire]} if wire in _VERSIONS else {}
    return {"wire_format": wire, "base_url": base_url, **version}


def simulated_providers(simulator: ProviderSimulator) -> dict[str, dict[str, Any]]:
    """Return a provider of the config file for each wire format, by its name, all of them the simulator."""
    return {wire: provider_of(wire, url_of(wire, simulator)) for wire in WIRES}


def adapter_for(
    wire: str,
    pool: ConnectionPool,
    base_url: str,
    idle_timeout: float = 30.0,
    connect_timeout: float = 30.0,
    **provider: Any,
) -> ModelAdapter:
    """Create an adapter with timeouts that only a test of timeouts reaches, on any machine."""
    config = ProviderConfig.model_validate(
        {"wire_format": wire, "base_url": base_url, "api_version": _VERSIONS.get(wire), **provider}
    )
    return make_adapter(config, pool, ProviderLimits(connect_timeout, idle_timeout, 32 * MIB))


def call(
    model: str = "sim-ok",
    text: str = "Hello",
    /,
    *,
    streams: bool = False,
    seconds: float = 60.0,
    operation: Operation = Operation.CHAT,
    headers: Mapping[str, str] | None = None,
    **fields: Any,
) -> UpstreamCall:
    """Create one attempt; `fields` are added to a body with one user message."""
    body = {"messages": [{"role": "user", "content": text}], **fields}
    return UpstreamCall(model, body, seconds, operation, streams, headers or {})


async def complete(adapter: ModelAdapter, asked: UpstreamCall, key: str | None = KEY) -> ModelResponse:
    """Return a whole response."""
    response = await adapter.send(asked, key)
    assert isinstance(response, ModelResponse)
    return response


async def open_stream(adapter: ModelAdapter, asked: UpstreamCall, key: str | None = KEY) -> ChunkStream:
    """Return a stream whose first chunk has arrived."""
    response = await adapter.send(asked, key)
    assert isinstance(response, ChunkStream)
    return response


async def collect(adapter: ModelAdapter, asked: UpstreamCall, into: list[ChatChunk]) -> None:
    """Keep the chunks that arrived, although the rest fails."""
    async with aclosing(await open_stream(adapter, asked)) as chunks:
        async for chunk in chunks:
            into.append(chunk)  # noqa: PERF401 - see the docstring


def text_of(chunks: list[ChatChunk]) -> str:
    """Return the text of all chunks."""
    return "".join(chunk.delta.get("content") or "" for chunk in chunks)
