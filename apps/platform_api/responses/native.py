"""Forward a provider's Responses byte for byte, except for the members that the gateway sets.

These are the model's name, if the client used an alias, and the ids of a stored response.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.platform_api.responses.json_members import Path, with_texts
from platform_app.llm.codecs import lenient_json
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.llm.translation.responses.envelope import Envelope
from platform_app.llm.translation.responses.stream import ResponseWriter
from platform_app.llm.usage.counts import TokenUsage

_MAX_NUMBER = 2**53
"""The integers that every client's JSON parser reads exactly."""
TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True, slots=True)
class Renamed:
    """The members of a Response object that the client gets with other values."""

    model: str | None = None
    """The public name; None if it is the same as the provider's."""
    sign: Callable[[str], str] | None = None
    """Returns the client's id of a stored response; None if it is not stored."""
    previous: str | None = None
    """The client's id of the previous response."""

    def whole(self, response: ModelResponse) -> bytes:
        """Return the bytes of a Response object."""
        changes = self.changes(response.body)
        texts: dict[Path, str] = {(name,): value for name, value in changes.items()}
        return with_texts(response.raw, response.body, texts) if texts else response.raw

    def changes(self, response: Mapping[str, Any]) -> dict[str, str]:
        """Return the new values of the members of this Response object."""
        made: dict[str, str] = {}
        if self.model is not None and isinstance(response.get("model"), str):
            made["model"] = self.model
        if self.sign is not None and isinstance(response.get("id"), str):
            made["id"] = self.sign(response["id"])
        if self.previous is not None and isinstance(response.get("previous_response_id"), str):
            made["previous_response_id"] = self.previous
        return made


@dataclass(slots=True)
class NativeEvents:
    """Passes the events of one stream on, and ends a stream without a terminal event; see ResponseWriter."""

    renamed: Renamed
    envelope: Envelope
    """Writes the failure of a stream that has no Response object."""
    _number: int = -1
    _response: dict[str, Any] = field(default_factory=dict)
    """The last Response object of the stream, as the client got it."""
    _ended: bool = False

    def chunk(self, chunk: ChatChunk) -> bytes:
        """Return the event of a chunk."""
        body, data = chunk.body, chunk.raw
        kind = body.get("type")
        number = body.get("sequence_number")
        if isinstance(number, int) and 0 <= number < _MAX_NUMBER:
            self._number = number
        if isinstance(response := body.get("response"), dict):
            changes = self.renamed.changes(response)
            if changes:
                data = with_texts(data, body, {("response", name): value for name, value in changes.items()})
            if kind in TERMINAL:
                self._ended = True
            else:
                self._response = {**response, **changes}
        if b"\n" in data or b"\r" in data:
            data = data.translate(None, b"\r\n")
        return b"event: %b\ndata: %b\n\n" % (_name(kind), data)

    def finish(self, _: TokenUsage | None) -> bytes:
        """Return the events of a failure if the provider's stream had no terminal event."""
        return b"" if self._ended else self.fail("server_error", "The provider's stream ended without its last event.")

    def fail(self, code: str, message: str, error: Mapping[str, Any] | None = None) -> bytes:
        """Return the events of a failure; see ResponseWriter.fail. After a terminal event there are none."""
        if self._ended:
            return b""
        self._ended = True
        if not self._response:
            return ResponseWriter(self.envelope).fail(code, message, error)
        raised = error or {"type": "server_error", "code": code, "message": message, "param": None}
        flat = {name: raised.get(name) for name in ("code", "message", "param")}
        failed = {**self._response, "status": "failed", "error": {"code": code, "message": message}, "output": []}
        return self._event({"type": "error", **flat, "error": raised}) + self._event(
            {"type": "response.failed", "response": failed}
        )

    def _event(self, body: Mapping[str, Any]) -> bytes:
        self._number += 1
        data = lenient_json.dumps({**body, "sequence_number": self._number})
        return b"event: %b\ndata: %b\n\n" % (str(body["type"]).encode(), data)


def _name(kind: object) -> bytes:
    """Return the name of an event; without line ends, which would begin another field or event."""
    return str(kind).encode("utf-8", "replace").translate(None, b"\r\n")
