"""Parse Responses events, and recognize the start, the end and the errors of a stream. Both decoders share this."""

from typing import Any

import orjson

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json
from platform_app.llm.providers.error_body import is_error_body, is_error_list
from platform_app.llm.providers.json_reading import OddEvents
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

    __slots__ = ("_odd", "has_content", "raw", "started")

    def __init__(self) -> None:
        self.started = False
        self.has_content = False
        """Whether there was content: a filter that removes everything is an error, and one that removes the rest is
        the reason why the response ended."""
        self.raw = b""
        """The bytes of the last event, in UTF-8."""
        self._odd = OddEvents()

    def read(self, data: bytes) -> Event | None:
        """Return an event of the response, or None for one that is skipped. Raises the provider's error."""
        self.raw = data
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            event = self._read_odd(data.strip())
        if isinstance(event, dict):
            return self._checked(event)
        if is_error_list(event):
            raise error_of_event({"error": event[0].get("error") or event[0]})
        if isinstance(event, str):
            self._odd.skip(event.encode("utf-8", "replace"))
        return None

    def incomplete(self) -> PlatformError:
        """Return the error of a stream that ended before its last event."""
        return self._odd.incomplete() if self.started else self._odd.incomplete("the stream ended without a response")

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
        if text.startswith(b"[DONE]"):
            self._odd.skip(text)
            return None
        event = self._odd.read(text)
        self.raw = lenient_json.sendable(text)
        return event
