"""The prompt and the output of one request, for its trace. Only if the operator opted in, and cut.

Without PLATFORM_TRACE_CONTENT_BYTES no object of this class exists, and a request costs one comparison with None.
"""

from collections.abc import Mapping, Sequence
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
        """Keep the start of the request's messages, or of its input."""
        self._prompt = self._start(body.get("messages") or body.get("input"))

    def note_response(self, generated: Sequence[Any]) -> None:
        """Keep the start of what a whole response has: its messages, or its parts. Embeddings have none."""
        if generated:
            self._whole = self._start(generated)

    def note_text(self, text: str) -> None:
        """Keep the text that a chunk adds, up to the limit."""
        if text and self._length < self._limit and len(self._fragments) < _MAX_FRAGMENTS:
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
