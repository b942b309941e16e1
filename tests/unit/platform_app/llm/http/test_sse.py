"""The event parser: however the bytes are split, the same events result."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.http import sse
from platform_app.llm.http.sse import EventTooLarge, SseParser

LINES = st.one_of(
    st.sampled_from([b"", b"data:", b"data: ", b"data:  two", b"data:x", b"data: {}", b"data", b": comment", b"id: 1"]),
    st.binary(max_size=12).map(lambda raw: b"data: " + raw.replace(b"\n", b"").replace(b"\r", b"")),
    st.sampled_from(
        [
            b"event: x",
            b"retry: 5",
            b"nonsense",
            b"data : x",
            b"data: x ",
            b"data:\tx\t",
            b" data: x",
            b" ",
            b"\xef\xbb\xbfdata: x",
        ]
    ),
)


def expected_events(stream: bytes) -> list[bytes]:
    """Apply the standard's algorithm to the complete lines of a whole stream."""
    lines = re.split(rb"\r\n|\n|\r", stream.removeprefix(sse.BOM))[:-1]
    events: list[bytes] = []
    data: list[bytes] = []
    for line in lines:
        if line == b"":
            if data:
                events.append(b"\n".join(data))
            data = []
        elif line.startswith(b"data:"):
            data.append(line[6:] if line[5:6] == b" " else line[5:])
    return events


@given(
    st.sampled_from([b"", sse.BOM]),
    st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r"])), max_size=20),
    st.binary(max_size=5),
    st.data(),
)
def test_any_split_of_stream_gives_same_events(
    bom: bytes, lines: list[tuple[bytes, bytes]], rest: bytes, data: st.DataObject
) -> None:
    """Kind 17: a byte order mark, and a lone CR as line end."""
    stream = bom + b"".join(line + end for line, end in lines) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    parser = SseParser()
    found: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        found += parser.feed(stream[start:end])
    assert found == expected_events(stream)


def test_single_bytes_give_same_events() -> None:
    parser = SseParser()
    stream = b'data: {"a":1}\r\n\r\n: ping\n\ndata: one\ndata: two\n\ndata: [DONE]\n\n'
    found = [event for position in range(len(stream)) for event in parser.feed(stream[position : position + 1])]
    assert found == [b'{"a":1}', b"one\ntwo", b"[DONE]"]


def test_event_is_returned_once_complete() -> None:
    parser = SseParser()
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b") == [b"a"]
    assert parser.feed(b"\n\n") == [b"b"]


def test_lone_cr_ends_event_at_once() -> None:
    """Kind 17: otherwise a provider with CR line ends would be one event behind."""
    parser = SseParser()
    assert parser.feed(b"data: a\r\r") == [b"a"]
    assert parser.feed(b"\ndata: b\r\n\r") == [b"b"]
    assert parser.feed(b"\ndata: c\n\n") == [b"c"]


@pytest.mark.parametrize(
    "line", [b'{"error": {"message": "m"}}', b'error: {"message": "m"}', b'{ "id": 1, "error": "m" }']
)
def test_bare_error_line_is_read_as_data(line: bytes) -> None:
    """Kind 4, in streams: llama.cpp and proxies write errors outside of the format."""
    assert SseParser().feed(line + b"\n\n") == [line.removeprefix(b"error: ")]


@pytest.mark.parametrize("line", [b'{"id": 1}', b"error: none", b"{", b"errors: x"])
def test_other_bare_lines_are_skipped(line: bytes) -> None:
    assert SseParser().feed(line + b"\n\ndata: a\n\n")[-1] == b"a"


@pytest.mark.parametrize("part", [b"x" * 10, b"data: " + b"x" * 10 + b"\n", b": " + b"x" * 8, b"data:\n"])
def test_endless_line_or_event_is_refused(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    parser = SseParser()
    most = 10_000 // len(part)
    with pytest.raises(EventTooLarge):
        [parser.feed(part) for _ in range(most)]


def test_one_large_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    with pytest.raises(EventTooLarge):
        SseParser().feed(b"data: " + b"x" * 1001 + b"\n\n")


def test_event_at_limit_passes_and_size_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    parser = SseParser()
    for _ in range(5):
        assert parser.feed(b"data: " + b"x" * 1000 + b"\n\n") == [b"x" * 1000]


def test_many_small_events_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    assert len(SseParser().feed(b"data: abc\n\n" * 5000)) == 5000


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("field", [b"data: ", b": ", b"event: "])
def test_line_above_limit_is_refused_in_any_split(field: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1000)
    stream = field + b"x" * 1010 + b"\n\n"
    parser = SseParser()
    with pytest.raises(EventTooLarge):
        [parser.feed(stream[start : start + size]) for start in range(0, len(stream), size)]


def test_line_in_single_bytes_costs_linear_work() -> None:
    """Return this thread's CPU time for one line in chunks of one byte. 16 times the bytes cost 16 times the work, and
    256 times if the line were copied with every chunk."""

    def seconds(size: int) -> float:
        parser = SseParser()
        chunk = b"x"
        started = time.thread_time()
        for _ in range(size):
            parser.feed(chunk)
        return time.thread_time() - started

    small, large = (min(seconds(size) for _ in range(3)) for size in (16_384, 262_144))
    assert large < 64 * small
