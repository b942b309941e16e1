"""Lines of kept requests in the exporter's pipe."""

import os
from collections.abc import Iterator

import pytest

from platform_app.observability.context import RequestContext
from platform_app.observability.record import AUTH, OK, AttemptRecord
from platform_app.observability.tracing.kept_request import kept_request, parse_line
from platform_app.observability.tracing.request_tracing import RequestTracing
from platform_app.observability.tracing.sampling import KeepRule, RatioSampler
from platform_app.observability.tracing.sender import MAX_LINE_BYTES, TraceSender
from platform_app.observability.tracing.trace_context import continue_trace
from tests.support.fakes.core import Count

HTTP = {
    "path": "/v1/platform/chat",
    "scheme": "http",
    "http_version": "1.1",
    "host": "gateway.test",
    "user_agent": None,
}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def dropped(reason: str) -> Count:
    return Count("platform_traces_dropped_total", reason=reason)


def read_all(descriptor: int) -> bytes:
    data = b""
    while True:
        try:
            part = os.read(descriptor, 65_536)
        except BlockingIOError:
            return data
        data += part


def test_line_arrives_after_a_line_feed(pipe: tuple[int, int]) -> None:
    """The worker that had the pipe before may have died in the middle of a line."""
    TraceSender(pipe[1]).send(b"one\n")
    assert read_all(pipe[0]) == b"\none\n"


def test_full_pipe_drops_whole_lines_and_counts_them(pipe: tuple[int, int]) -> None:
    sender, full = TraceSender(pipe[1]), dropped("pipe_full")
    line = b"x" * 999 + b"\n"
    for _ in range(1000):
        sender.send(line)
    arrived = read_all(pipe[0])
    sender.send(b"last\n")
    arrived += read_all(pipe[0])
    lines = arrived.split(b"\n")
    assert set(lines[1:-2]) == {b"x" * 999}
    assert lines[-2] == b"last"
    assert full.grown == 1000 - lines.count(b"x" * 999)


def test_line_that_is_too_large_is_dropped(pipe: tuple[int, int]) -> None:
    too_large = dropped("too_large")
    TraceSender(pipe[1]).send(b"x" * (MAX_LINE_BYTES + 1))
    assert (too_large.grown, read_all(pipe[0])) == (1, b"")


def test_missing_exporter_is_counted_and_raises_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    none = dropped("no_exporter")
    TraceSender(writing).send(b"one\n")
    os.close(writing)
    assert none.grown == 1


def request() -> RequestContext:
    context = RequestContext("id", continue_trace(None), "POST", "192.0.2.1", 100.0, route="/v1/platform/chat")
    context.record.hops.append((AUTH, 100.001, 100.002, OK))
    context.record.attempts.append(
        AttemptRecord(
            "p", "m", "u", "chat", False, 100.01, "a" * 16, ended=100.5, response={"id": "r-1", "model": "u-2"}
        )
    )
    return context


def test_kept_request_survives_its_line() -> None:
    made = kept_request("failed", request(), HTTP, 502, 100.6)
    read = parse_line(made.line())
    assert read == made
    assert read.hops == [(AUTH, 1000, 2000, OK)]
    [attempt] = read.attempts
    assert (attempt.started, attempt.ended, attempt.response_id, attempt.response_model) == (
        10_000,
        500_000,
        "r-1",
        "u-2",
    )


def test_providers_text_with_half_a_surrogate_pair_is_kept() -> None:
    """A failed request has a trace whatever the provider wrote."""
    context = request()
    [attempt] = context.record.attempts
    attempt.message, attempt.finish_reason, attempt.response = "bad \ud83d", "\ude00", {"id": "\ud800", "model": "m"}
    [kept] = parse_line(kept_request("failed", context, HTTP, 502, 100.6).line()).attempts
    assert (kept.message, kept.finish_reason, kept.response_id, kept.response_model) == ("bad ?", "?", "?", "m")


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'"x"', b"{}", b'{"hops": 1, "attempts": []}', b'{"a": 1}'])
def test_damaged_line_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_line(line)


def test_request_that_json_cannot_express_is_dropped(pipe: tuple[int, int]) -> None:
    tracing = RequestTracing(RatioSampler(1.0), KeepRule(60, 0.25, 10), TraceSender(pipe[1]))
    invalid, context = dropped("invalid"), request()
    context.record.attempts[0].max_tokens = 2**80
    tracing.end(context, 200, 100.6, 0.0, lambda: HTTP)
    tracing.end(request(), 200, 100.6, 0.0, lambda: {**HTTP, "path": "/\ud800"})
    assert (invalid.grown, read_all(pipe[0])) == (2, b"")
