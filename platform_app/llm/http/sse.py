"""Server-sent events as they come from a provider: bytes in, the data of whole events out.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only `data` matters here. Lines end
with LF, CRLF or CR, and a byte order mark may stand in front. Beyond it, an error that a server writes as a bare line
of JSON or in a field of its own (`error: {…}`, llama.cpp) is read as data: clients would never see it.
"""

BOM = b"\xef\xbb\xbf"
MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event's data, with the line ends in it. A line has as much, and room for the field's name."""
_FIELD_BYTES = len(b"data: \r")
_ERROR_LINES = (b"{", b"error:")


class EventTooLarge(Exception):
    """One event is larger than any real one; reading on would only grow memory."""


class SseParser:
    """Incremental: feed it whatever arrived; an event may end anywhere between two feeds.

    Its work is linear in the bytes fed, however small the chunks are: a line that is not complete grows in place, and
    only the new bytes are searched for its end.
    """

    def __init__(self) -> None:
        self._begin: bytes | None = b""  # until it is known whether a byte order mark is there
        self._after_cr = False
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that is complete now. To be told what a stream's end leaves incomplete, feed an
        empty line.

        Raises:
            EventTooLarge: a line, or an event's data, passed MAX_EVENT_BYTES.
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
                continue
            if line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
            elif line.startswith(_ERROR_LINES) and (error := _error_in(line)):
                value = error
            else:
                if len(line) > MAX_EVENT_BYTES + _FIELD_BYTES:
                    raise EventTooLarge
                continue
            self._size += len(value) + 1 if data else len(value)  # 1: many empty lines are large too
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
        """A CR ends its line at once: the event is not held until the next byte shows whether an LF belongs to it."""
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _grow(self, part: bytes) -> None:
        """More of a line whose end is not there yet."""
        self._line += part
        if len(self._line) > MAX_EVENT_BYTES + _FIELD_BYTES:
            raise EventTooLarge


def _error_in(line: bytes) -> bytes:
    """The error in a line that is no `data` field; empty where it has none."""
    if line.startswith(b"error:"):
        return line[6:].removeprefix(b" ") if b'"' in line else b""
    return line if b'"error"' in line[:100] else b""
