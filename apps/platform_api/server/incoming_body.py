"""Where a request's body ends: by its length, or chunk by chunk (RFC 9112, section 7.1), read strictly."""

import re
from typing import Protocol

from apps.platform_api.server.head import FORBIDDEN
from apps.platform_api.server.refusal import Reason, refuse

MAX_CHUNK_LINE = 1024
"""Bytes of a chunk's size with its extensions."""
FREE_SMALL_CHUNKS = 4 * 1024
SMALL_CHUNK = 64
"""A body of more chunks must have so many bytes in each on average: each chunk costs as much as a small request."""

_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(?:;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_PLAIN_CHUNK_LINE = re.compile(rb"[0-9A-Fa-f]{1,15}+\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+\r\n)*+\r\n")
_CRLF = b"\r\n"


class IncomingBody(Protocol):
    """Takes a body off the bytes of a connection."""

    complete: bool
    """Nothing of this body is to come."""

    def take(self, buffer: bytearray) -> bytes:
        """Remove what belongs to the body from the front of the buffer, as far as it has arrived, and return the
        content in it.

        Raises:
            RequestRefusedError: the bytes are no body; the connection is lost.
        """
        ...

    def remaining(self) -> int | None:
        """Return the bytes to come; None if only the end of the body shows it."""
        ...


class LengthBody:
    """A body of a known length."""

    __slots__ = ("_left", "complete")

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete = length == 0

    def take(self, buffer: bytearray) -> bytes:
        """See IncomingBody."""
        content = bytes(buffer[: self._left]) if len(buffer) > self._left else bytes(buffer)
        del buffer[: len(content)]
        self._left -= len(content)
        self.complete = self._left == 0
        return content

    def remaining(self) -> int | None:
        """See IncomingBody."""
        return self._left


class ChunkedBody:
    """A body in chunks. Extensions are bounded and mean nothing; trailers are bounded, checked and dropped: what stands
    behind the body can never be a header, since all that headers decide has been decided by then."""

    __slots__ = ("_bytes", "_chunks", "_left", "_max_trailers", "_trailers", "complete")

    def __init__(self, max_trailer_bytes: int) -> None:
        self._left = 0
        """Of the chunk that is being read, with the CRLF behind it."""
        self._chunks = 0
        self._bytes = 0
        self._trailers = False
        self._max_trailers = max_trailer_bytes
        self.complete = False

    def take(self, buffer: bytearray) -> bytes:
        """See IncomingBody."""
        parts: list[bytes] = []
        at = 0
        while not self.complete:
            if not (self._left or self._trailers):
                at = self._take_whole_chunks(buffer, at, parts)
            before = at
            if self._trailers:
                at = self._take_trailers(buffer, at)
            elif self._left:
                at = self._take_content(buffer, at, parts)
            else:
                at = self._take_line(buffer, at)
            if at == before:
                break
        del buffer[:at]
        return b"".join(parts)

    def remaining(self) -> int | None:
        """See IncomingBody."""
        return 0 if self.complete else None

    def _take_whole_chunks(self, buffer: bytearray, at: int, parts: list[bytes]) -> int:
        """Take the chunks that have arrived with all their bytes, without extensions: three times as fast as line,
        content and end one by one, which counts where chunks are tiny. What is left is for the others to judge."""
        while self._chunks < FREE_SMALL_CHUNKS and (line := _PLAIN_CHUNK_LINE.match(buffer, at)) is not None:
            start = line.end()
            size = int(line[0], 16)  # int ignores the CRLF
            after = start + size
            if not size or not buffer.startswith(_CRLF, after):
                break
            parts.append(bytes(buffer[start:after]))
            self._chunks += 1
            self._bytes += size
            at = after + 2
        return at

    def _take_line(self, buffer: bytearray, at: int) -> int:
        """Read a chunk's size. Return the position after its line, or `at` if the line is not complete."""
        line = _CHUNK_LINE.match(buffer, at)
        if line is None:
            if len(buffer) - at >= MAX_CHUNK_LINE or not _may_become_a_line(buffer, at):
                raise refuse(
                    Reason.CHUNK, "A chunk of the body is malformed: expected its size in hexadecimal digits and CRLF."
                )
            return at
        if line.end() - at > MAX_CHUNK_LINE:
            raise refuse(Reason.CHUNK, f"A chunk's extensions are larger than {MAX_CHUNK_LINE} bytes.")
        size = int(line[1], 16)
        self._chunks += 1
        self._bytes += size
        if self._chunks > FREE_SMALL_CHUNKS and self._chunks * SMALL_CHUNK > self._bytes:
            raise refuse(
                Reason.CHUNK, f"The body comes in too small chunks: expected {SMALL_CHUNK} bytes in each on average."
            )
        if size == 0:
            self._trailers = True
        else:
            self._left = size + 2
        return line.end()

    def _take_content(self, buffer: bytearray, at: int, parts: list[bytes]) -> int:
        if self._left > 2:
            content = bytes(buffer[at : at + self._left - 2])
            parts.append(content)
            self._left -= len(content)
            return at + len(content)
        ending = buffer[at : at + 2]
        if not _CRLF.startswith(ending):
            raise refuse(Reason.CHUNK, "A chunk of the body is malformed: expected CRLF where it ends.")
        if ending != _CRLF:
            return at
        self._left = 0
        return at + 2

    def _take_trailers(self, buffer: bytearray, at: int) -> int:
        whole = _TRAILERS.match(buffer, at)
        if whole is not None and whole.end() - at <= self._max_trailers:
            self.complete = True
            return whole.end()
        if whole is not None or len(buffer) - at >= self._max_trailers:
            raise refuse(
                Reason.TRAILERS_TOO_LARGE,
                f"The fields behind the body are larger than {self._max_trailers} bytes.",
                431,
                "headers_too_large",
            )
        if buffer.count(b"\r\n\r\n", at) or FORBIDDEN.search(buffer, at) is not None:
            raise refuse(Reason.HEADER_FIELD, "A field behind the body is malformed.")
        return at


_LINE_SO_FAR = re.compile(rb"[0-9A-Fa-f]{0,15}+(?:;[\t\x20-\x7e\x80-\xff]*+)?\r?")


def _may_become_a_line(buffer: bytearray, at: int) -> bool:
    """Whether more bytes could make a chunk's line of what has arrived."""
    so_far = _LINE_SO_FAR.match(buffer, at)
    return so_far is not None and so_far.end() == len(buffer)
