"""Server-sent events as they come from a provider: bytes in, the data of whole events out.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only `data` matters here.
"""

MAX_EVENT_BYTES = 4 * 1024 * 1024
"""Of one event's data, with the line ends in it. A line has as much, and room for the field's name."""
_FIELD_BYTES = len(b"data: \r")


class EventTooLarge(Exception):
    """One event is larger than any real one; reading on would only grow memory."""


class SseParser:
    """Incremental: feed it whatever arrived; an event may end anywhere between two feeds.

    Its work is linear in the bytes fed, however small the chunks are: a line that is not complete grows in place, and
    only the new bytes are searched for its end.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that is complete now.

        Raises:
            EventTooLarge: a line, or an event's data, passed MAX_EVENT_BYTES.
        """
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
            line = line.removesuffix(b"\r")
            if not line:
                if data:
                    events.append(b"\n".join(data))
                    data, self._size = [], 0
            elif line.startswith(b"data:"):
                value = line[5:].removeprefix(b" ")
                self._size += len(value) + 1 if data else len(value)  # 1: many empty lines are large too
                data.append(value)
                if self._size > MAX_EVENT_BYTES:
                    raise EventTooLarge
            elif len(line) > MAX_EVENT_BYTES + _FIELD_BYTES:
                raise EventTooLarge
        self._data = data
        if rest:
            self._grow(rest)
        return events

    def _grow(self, part: bytes) -> None:
        """More of a line whose end is not there yet."""
        self._line += part
        if len(self._line) > MAX_EVENT_BYTES + _FIELD_BYTES:
            raise EventTooLarge
