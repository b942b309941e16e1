"""Server-sent events as they come from a provider: bytes in, the data of whole events out.

Format: https://html.spec.whatwg.org/multipage/server-sent-events.html, of which only `data` matters here.
"""

MAX_EVENT_BYTES = 4 * 1024 * 1024


class EventTooLarge(Exception):
    """One event is larger than any real one; reading on would only grow memory."""


class SseParser:
    """Incremental: feed it whatever arrived; an event may end anywhere between two feeds."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that is complete now.

        Raises:
            EventTooLarge: an event, or a line without an end, passed MAX_EVENT_BYTES.
        """
        # A part without a line end is only stored, so a long line is not searched again with every chunk.
        if b"\n" not in chunk:
            self._rest += chunk
            self._check(len(self._rest))
            return []
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        events = []
        for line in lines:
            line = line.removesuffix(b"\r")
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data, self._size = [], 0
            elif line.startswith(b"data:"):
                data = line[5:].removeprefix(b" ")
                self._data.append(data)
                self._size += len(data)
                self._check(self._size)
        self._check(len(self._rest))
        return events

    def _check(self, size: int) -> None:
        if size > MAX_EVENT_BYTES:
            raise EventTooLarge
