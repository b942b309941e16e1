"""Parse server-sent events from a provider: bytes in, the data of complete events out.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only `data` and the event name `error`
are used. Lines end with LF, CRLF or CR, and the body may begin with a byte order mark. In addition, an error that a
server writes as a bare line of JSON or in an `error:` field (llama.cpp) is read as data: otherwise clients would never
see it.
"""

import re

BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 4 * 1024 * 1024
"""The size of one event's data, its line ends included. A line may have as much, plus the field's name."""
_FIELD_BYTES = len(b"data: \r")
_ERROR_LINES = (b"{", b"[", b"error:")
_ERROR_HEAD = 200
_ERROR_MEMBERS = re.compile(
    rb'"(?:error|errors|detail)"\s*:|"(?:message|msg)"\s*:.*"(?:code|status|type)"\s*:'
    rb'|"(?:code|status|type)"\s*:.*"(?:message|msg)"\s*:'
)
_NO_ERRORS = (b"", b"none", b"null", b"false", b"0")
_ERROR_EVENTS = (b"event: error", b"event:error")


class EventTooLarge(Exception):
    """One event is larger than any real event. Reading on would only use more memory."""


class SseParser:
    """An incremental parser: feed it the bytes that arrived, of any number of events or parts of events.

    Its work is linear in the number of bytes, however small the parts are: an incomplete line grows in place, and only
    the new bytes are searched for its end.
    """

    def __init__(self) -> None:
        self._begin: bytes | None = b""  # None once it is known whether there is a byte order mark
        self._after_cr = False
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._is_error = False
        """Whether the event that is arriving has the name of an error."""

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the data of every event that is complete now. At the end of a stream, feed an empty line to get an
        event that was not terminated.

        Raises:
            EventTooLarge: a line, or the data of an event, is larger than MAX_EVENT_BYTES.
        """
        if self._begin is not None:
            chunk = self._without_bom(chunk)
        if b"\r" in chunk or (self._after_cr and chunk):
            chunk = self._with_line_feeds(chunk)
        if b"\n" not in chunk:
            self._grow(chunk)
            return []
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if self._line:
            self._grow(lines[0])
            lines[0] = bytes(self._line)
            self._line = bytearray()
        events = []
        data = self._data
        for line in lines:
            if not line:
                if data:
                    events.append(b"\n".join(data))
                    data, self._size = [], 0
                    if self._is_error:
                        events[-1] = _named_error(events[-1])
                if self._is_error:
                    self._is_error = False
                continue
            if line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
            elif line.startswith(_ERROR_LINES) and (error := _error_in(line)):
                value = error
            else:
                if line in _ERROR_EVENTS:
                    self._is_error = True
                if len(line) > MAX_EVENT_BYTES + _FIELD_BYTES:
                    raise EventTooLarge
                continue
            self._size += len(value) + 1 if data else len(value)  # the 1 makes many empty lines count too
            data.append(value)
            if self._size > MAX_EVENT_BYTES:
                raise EventTooLarge
        self._data = data
        if rest:
            self._grow(rest)
        return events

    def _without_bom(self, chunk: bytes) -> bytes:
        begin = (self._begin or b"") + chunk
        if len(begin) < len(BOM) and BOM.startswith(begin):
            self._begin = begin
            return b""
        self._begin = None
        return begin.removeprefix(BOM)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """Replace line ends by LF. A CR ends its line at once, without waiting for an LF that may follow."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _grow(self, part: bytes) -> None:
        """Add bytes to a line whose end has not arrived."""
        self._line += part
        if len(self._line) > MAX_EVENT_BYTES + _FIELD_BYTES:
            raise EventTooLarge


def _named_error(data: bytes) -> bytes:
    """Return the data of an event `error` with that name in it, which its readers look for."""
    start = data.lstrip()
    if start.startswith(b"{"):
        return data if b'"error"' in data else b'{"error":%b}' % data
    return data if start.startswith(b"[") else b"error: " + data


def _error_in(line: bytes) -> bytes:
    """Return the error in a line that is not a `data` field; empty if there is none."""
    if line.startswith(b"error:"):
        if b'"' in line:
            return line[6:].removeprefix(b" ")
        return b"" if line[6:].strip().lower() in _NO_ERRORS else line
    head = line[:_ERROR_HEAD]
    return line if b'"choices"' not in head and _ERROR_MEMBERS.search(head) else b""
