"""The prompt and the output of one request, for its trace. Only if the operator opted in, and cut.

Without PLATFORM_TRACE_CONTENT_BYTES no object of this class exists, and a request costs one comparison with None.
"""

from collections.abc import Mapping
from typing import Any

import orjson

_MAX_FRAGMENTS = 4_096
"""Of a stream's text. Its chunks may be as short as one character."""


class ContentCapture:
    """Collects the content of one request in at most `limit` bytes each for prompt and output."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._prompt = b""
        self._whole: bytes | None = None
        self._fragments: list[str] = []
        self._length = 0

    def note_prompt(self, body: Mapping[str, Any]) -> None:
        """Keep the start of the request's messages, or of an embedding's input."""
        self._prompt = self._start(body.get("messages") or body.get("input"))

    def note_response(self, body: Mapping[str, Any]) -> None:
        """Keep the start of a whole response's messages. Embeddings have no text."""
        choices = body.get("choices")
        if isinstance(choices, list):
            self._whole = self._start([choice.get("message") for choice in choices if isinstance(choice, dict)])

    def note_chunk(self, body: Mapping[str, Any]) -> None:
        """Keep the text that a chunk adds to the first choice, up to the limit."""
        if self._length >= self._limit or len(self._fragments) >= _MAX_FRAGMENTS:
            return
        choices = body.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            delta = choices[0].get("delta")
            text = delta.get("content") if isinstance(delta, dict) else None
            if isinstance(text, str) and text:
                self._fragments.append(text[: self._limit])
                self._length += len(text)

    def content(self) -> dict[str, str]:
        """Return prompt and output as JSON texts, cut."""
        output = self._whole
        if output is None and self._fragments:
            output = self._start([{"role": "assistant", "content": "".join(self._fragments)}])
        found = {"prompt": self._prompt, "output": output or b""}
        return {name: text.decode(errors="ignore") for name, text in found.items() if text}

    def _start(self, value: object) -> bytes:
        try:
            return b"" if value is None else orjson.dumps(value)[: self._limit]
        except TypeError:  # not JSON, as half a surrogate pair: a trace never fails a request
            return b""
