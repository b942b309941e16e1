"""A body ends where its length or its last chunk says, however its bytes arrive."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.server import incoming_body
from apps.platform_api.server.incoming_body import (
    FREE_SMALL_CHUNKS,
    MAX_CHUNK_LINE,
    ChunkedBody,
    IncomingBody,
    LengthBody,
)
from apps.platform_api.server.refusal import Reason, RequestRefusedError

TRAILER_BYTES = 100


def take_all(body: IncomingBody, parts: list[bytes]) -> tuple[bytes, bytes]:
    """Return the content, and what follows the body."""
    buffer = bytearray()
    content = b""
    for part in parts:
        buffer += part
        if not body.complete:
            content += body.take(buffer)
    return content, bytes(buffer)


def refused(data: bytes, split: int = 10_000_000) -> Reason:
    parts = [data[start : start + split] for start in range(0, len(data), split)]
    with pytest.raises(RequestRefusedError) as caught:
        take_all(ChunkedBody(TRAILER_BYTES), parts)
    return caught.value.refusal.reason


def test_length_body_leaves_the_next_request() -> None:
    body = LengthBody(5)
    assert take_all(body, [b"ab", b"cdeGET /"]) == (b"abcde", b"GET /")
    assert (body.complete, body.remaining()) == (True, 0)


@pytest.mark.parametrize("length", [1, 2])
def test_body_is_complete_with_its_last_byte(length: int) -> None:
    body = LengthBody(length)
    assert (body.complete, body.remaining()) == (False, length)
    assert take_all(body, [b"x" * length]) == (b"x" * length, b"")
    assert body.complete
    assert LengthBody(0).complete


@pytest.mark.parametrize("trailers", [b"", b"X-Trailer: 1\r\n", b"Authorization: Bearer x\r\nHost: y\r\n"])
@given(cuts=st.lists(st.integers(1, 60), max_size=8))
def test_chunked_body_is_the_same_however_it_is_split(trailers: bytes, cuts: list[int]) -> None:
    data = b"5\r\nhello\r\n1;name=value\r\n \r\n00A\r\n0123456789\r\n0\r\n" + trailers + b"\r\nGET /"
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = [data[start:end] for start, end in pairwise(edges)]
    body = ChunkedBody(TRAILER_BYTES)
    assert take_all(body, parts) == (b"hello 0123456789", b"GET /")
    assert body.complete


def test_rest_of_a_chunked_body_is_unknown_until_its_end() -> None:
    body = ChunkedBody(TRAILER_BYTES)
    take_all(body, [b"5\r\nhello\r\n0\r\n"])
    assert body.remaining() is None
    take_all(body, [b"\r\n"])
    assert body.remaining() == 0


INNER = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("line", [b"%x\r\n" % len(INNER), b"%x;name=value\r\n" % len(INNER)])
@pytest.mark.parametrize("cut", range(1, 40))
def test_chunk_inside_of_a_chunk_is_content(line: bytes, cut: int) -> None:
    """Else an attacker could end the body early, and hide a request in it."""
    data = line + INNER + b"\r\n0\r\n\r\nGET /"
    assert take_all(ChunkedBody(TRAILER_BYTES), [data[:cut], data[cut:]]) == (INNER, b"GET /")


@pytest.mark.parametrize("extension", [b"", b";x"])
def test_line_ends_in_content_end_nothing(extension: bytes) -> None:
    """Content of line ends only: a size that is read wrong would find one where it looks for the chunk's end."""
    contents = [b"\r\n" * count for count in range(1, 300)]
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(each), extension, each) for each in contents)
    body = ChunkedBody(TRAILER_BYTES)
    assert take_all(body, [data + b"0\r\n\r\nGET /"]) == (b"".join(contents), b"GET /")


@pytest.mark.parametrize("split", [1, 10_000_000])
@pytest.mark.parametrize(
    "data",
    [
        b"5 \r\nhello", b" 5\r\nhello",
        b"+5\r\nhello", b"0x5\r\nhello", b"5\nhello", b"5\rhello", b"\r\n", b"g\r\n", b"-1\r\n",
        b"5\r\nhelloX\r\n", b"5\r\nhello\n", b"5\r\nhello\r\r",
        b"5;a\x00b\r\n", b"5;a\nb\r\n", b"FFFFFFFFFFFFFFFFF\r\n",
        b"5" + b";" + b"x" * 2000 + b"\r\n", b"5;" + b"x" * 2000, b"5_0\r\n",
    ],
)  # fmt: skip
def test_malformed_chunk_is_refused(data: bytes, split: int) -> None:
    assert refused(data, split) is Reason.CHUNK


@pytest.mark.parametrize("split", [1, 10_000_000])
@pytest.mark.parametrize(
    "trailer", [b"X\r\n\r\n", b" X: y\r\n\r\n", b"X : y\r\n\r\n", b"X: y\n\r\n", b"X: \x00\r\n\r\n"]
)
def test_malformed_trailer_is_refused(trailer: bytes, split: int) -> None:
    assert refused(b"0\r\n" + trailer + b"\r\n", split) is Reason.HEADER_FIELD


@pytest.mark.parametrize("data", [b"X: y\n", b"X: y\rZ", b"X: \x00"])
def test_hopeless_trailer_is_refused_before_its_end(data: bytes) -> None:
    assert refused(b"0\r\n" + data) is Reason.HEADER_FIELD


@pytest.mark.parametrize("split", [1, 10_000_000])
def test_trailers_are_bounded(split: int) -> None:
    assert refused(b"0\r\n" + b"X: y\r\n" * 50 + b"\r\n", split) is Reason.TRAILERS_TOO_LARGE
    assert refused(b"0\r\n" + b"X: " + b"y" * 5000, split) is Reason.TRAILERS_TOO_LARGE
    longest = b"X: " + b"y" * (TRAILER_BYTES - 7) + b"\r\n\r\n"
    data = b"0\r\n" + longest
    parts = [data[start : start + split] for start in range(0, len(data), split)]
    assert take_all(ChunkedBody(TRAILER_BYTES), parts) == (b"", b"")
    assert refused(b"0\r\nX" + longest, split) is Reason.TRAILERS_TOO_LARGE
    assert refused(data[:3] + b"X" * TRAILER_BYTES, split) is Reason.TRAILERS_TOO_LARGE


@pytest.mark.parametrize("split", [1, 10_000_000])
def test_extensions_are_bounded(split: int) -> None:
    longest = b"1;" + b"x" * (MAX_CHUNK_LINE - 4) + b"\r\n"
    data = longest + b"y\r\n0\r\n\r\n"
    parts = [data[start : start + split] for start in range(0, len(data), split)]
    assert take_all(ChunkedBody(TRAILER_BYTES), parts) == (b"y", b"")
    assert refused(b"0" + longest, split) is Reason.CHUNK
    assert refused(longest[:-2] + b"xx", split) is Reason.CHUNK, "no line end can follow within the bound"


@pytest.mark.parametrize("extension", [b"", b";x"])
def test_small_chunks_are_bounded_by_their_mean(monkeypatch: pytest.MonkeyPatch, extension: bytes) -> None:
    monkeypatch.setattr(incoming_body, "FREE_SMALL_CHUNKS", 2)
    monkeypatch.setattr(incoming_body, "SMALL_CHUNK", 4)

    def chunks(*sizes: int) -> bytes:
        return b"".join(b"%x%b\r\n%b\r\n" % (size, extension, b"x" * size) for size in sizes)

    for sizes in ((1, 1), (4, 4, 4), (1, 1, 10)):
        assert take_all(ChunkedBody(TRAILER_BYTES), [chunks(*sizes)]) == (b"x" * sum(sizes), b"")
    for refused_sizes in ((1, 1, 1), (4, 4, 3), (1, 1, 9), (12, 1, 1, 1)):
        assert refused(chunks(*refused_sizes)) is Reason.CHUNK


def test_tiny_chunks_are_bounded() -> None:
    few = b"1\r\nx\r\n" * FREE_SMALL_CHUNKS
    assert len(take_all(ChunkedBody(TRAILER_BYTES), [few])[0]) == FREE_SMALL_CHUNKS
    assert refused(few + b"1\r\nx\r\n") is Reason.CHUNK
    large = b"400\r\n" + b"x" * 1024 + b"\r\n"
    assert len(take_all(ChunkedBody(TRAILER_BYTES), [large * 20_000])[0]) == 1024 * 20_000
