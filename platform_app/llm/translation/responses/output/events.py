"""Write the events of one stream with their sequence numbers."""

from collections.abc import Mapping
from typing import Any

from platform_app.llm.codecs import lenient_json


class EventWriter:
    """Numbers the events of a stream from 0. With `discard` it writes nothing, for a response that is not streamed."""

    __slots__ = ("_next", "discard")

    def __init__(self, *, discard: bool = False) -> None:
        self._next = 0
        self.discard = discard

    def event(self, kind: str, fields: Mapping[str, Any]) -> bytes:
        """Return one event. The type is in the data too, where SDKs read it."""
        if self.discard:
            return b""
        number, self._next = self._next, self._next + 1
        data = lenient_json.dumps({"type": kind, **fields, "sequence_number": number})
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def text_event(self, prefix: bytes, text: str, suffix: bytes) -> bytes:
        """Return the event of a text delta: `prefix` is the event up to the text, see `text_prefix`."""
        if self.discard:
            return b""
        number, self._next = self._next, self._next + 1
        return b'%b%b%b,"sequence_number":%d}\n\n' % (prefix, lenient_json.dumps(text), suffix, number)


def text_prefix(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return the start of an event whose last own member is `delta`, up to the delta's text. A stream has thousands of
    these events, so their constant part is written once."""
    data = lenient_json.dumps({"type": kind, **fields})[:-1]
    return b'event: %b\ndata: %b,"delta":' % (kind.encode(), data)
