"""What the decoders of Responses events share: which events start, end and fail a stream."""

from typing import Any

import orjson

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.providers.error_body import is_error_body
from platform_app.llm.providers.openai_responses.errors import error_of_event, error_of_response, filtered
from platform_app.llm.providers.openai_responses.fields import FAILED, is_emptied
from platform_app.llm.providers.openai_responses.native.response import TERMINAL

Event = dict[str, Any]
_FAILURES = ("response.failed", "response.cancelled")


class EventReader:
    """Parses the events of one stream, and raises the errors in them.

    Events that are not objects have no content and are skipped: empty events, `null`, texts of proxies, `[DONE]`. So
    are events before `response.created`. An object that is not valid JSON is an error, since content may be lost.
    """

    __slots__ = ("_stray", "has_content", "raw", "started")

    def __init__(self) -> None:
        self.started = False
        self.has_content = False
        """Whether there was content: a filter that removes everything is an error, and one that removes the rest is
        the reason why the response ended."""
        self.raw = b""
        """The bytes of the last event, in UTF-8."""
        self._stray = b""

    def read(self, data: bytes) -> Event | None:
        """Return an event of the response, or None for one that is skipped. Raises the provider's error."""
        self.raw = data
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = self._read_odd(data.strip())
        if isinstance(event, dict):
            return self._checked(event)
        if isinstance(event, list) and event and isinstance(event[0], dict) and is_error_body(event[0]):
            raise error_of_event({"error": event[0].get("error") or event[0]})
        if isinstance(event, str) and "error" in event.lower():
            self._stray = event.encode("utf-8", "replace")
        return None

    def incomplete(self) -> PlatformError:
        """Return the error of a stream that ended before its last event."""
        why = "the stream ended before the response was complete"
        return errors.bad_response(why if self.started else "the stream ended without a response", self._stray)

    def _checked(self, event: Event) -> Event | None:
        kind = event.get("type")
        if not isinstance(kind, str) or not kind.startswith("response.") or kind == "response.error":
            if kind in ("error", "response.error") or is_error_body(event):
                raise error_of_event(event)
            return event if self.started and isinstance(kind, str) else None
        if "response" in event:
            return self._with_response(kind, event)
        if kind in TERMINAL or kind in _FAILURES:
            raise errors.bad_response("the last event of the stream lacks its response")
        return event if self.started else None

    def _with_response(self, kind: str, event: Event) -> Event:
        response = event["response"]
        if not isinstance(response, dict):
            raise errors.bad_response("an event of the stream lacks its response")
        if kind in _FAILURES or (kind in TERMINAL and response.get("status") in FAILED):
            raise error_of_response(response)
        if kind in TERMINAL and not self.has_content and is_emptied(response):
            raise filtered()
        self.started = True
        return event

    def _read_odd(self, text: bytes) -> Any:
        if not text.removeprefix(lenient_json.BOM).startswith((b"{", b"[")) or text.startswith(b"[DONE]"):
            self._stray = text if b"error" in text.lower() else self._stray
            return None
        try:
            event = lenient_json.loads(text)
        except ValueError:
            raise errors.bad_response("an event of the stream is not valid JSON") from None
        self.raw = lenient_json.sendable(text)
        return event
