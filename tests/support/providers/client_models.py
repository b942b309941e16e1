"""The models, messages and schemas of the clients' tests: `<wire>-<fault>` for each format, and two more models."""

from typing import Any

from pydantic import BaseModel, Field

from apps.provider_simulator.server import ProviderSimulator

WIRES = ("openai", "azure", "anthropic", "responses")
FAULTS = ("ok", "context-length", "server-error", "stream-error", "unauthorized", "rate-limited")
EMBEDDING = "embedding"
FALLBACK = "fallback"
"""A model whose first route refuses connections."""
TIGHT = "tight"
"""A key may call `<wire>-tight` once in each window."""
TIGHT_WINDOW_SECONDS = 2

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def providers_of(simulator: ProviderSimulator) -> dict[str, dict[str, str]]:
    """Return a provider for each wire format, by the format's name in tests."""
    return {
        "openai": {"base_url": simulator.base_url},
        "azure": {"base_url": simulator.azure_url, "wire_format": "azure", "api_version": "2024-10-21"},
        "anthropic": {"base_url": simulator.anthropic_url, "wire_format": "anthropic"},
        "responses": {"base_url": simulator.base_url, "wire_format": "openai-responses"},
    }


def asking(text: str) -> list[Any]:
    """One user message."""
    return [{"role": "user", "content": text}]


class Weather(BaseModel):
    """Look up the weather."""

    city: str = Field(description="Where")
    days: int


class Verdict(BaseModel):
    """A structured output."""

    text: str
    sure: bool
