"""What the clients' tests ask for: `<wire>-<fault>` for each wire format, and two models of their own."""

from typing import Any

WIRES = ("openai", "azure", "anthropic")
FAULTS = ("ok", "context-length", "server-error", "stream-error", "unauthorized", "rate-limited")
EMBEDDING = "embedding"
FALLBACK = "fallback"
"""Its first route's connections are refused."""
TIGHT = "tight"
"""A key may ask `<wire>-tight` once in the window."""
TIGHT_WINDOW_SECONDS = 2

HELLO: list[Any] = [{"role": "user", "content": "hello"}]
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def asking(text: str) -> list[Any]:
    """One user message."""
    return [{"role": "user", "content": text}]
