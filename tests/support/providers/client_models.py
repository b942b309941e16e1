"""The models, messages and schemas of the clients' tests: `<wire>-<fault>` for each format, and two more models."""

from typing import Any

from pydantic import BaseModel, Field

WIRES = ("openai", "azure", "anthropic")
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
