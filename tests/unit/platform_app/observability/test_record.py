"""What the gateway itself adds to a request, from its record."""

import pytest

from platform_app.observability.record import (
    AUTH,
    FALLBACK,
    OK,
    QUEUE,
    RECEIVE,
    RETRY_WAIT,
    AttemptRecord,
    RequestRecord,
)  # fmt: skip


def attempt(started: float, ended: float | None, first_chunk: float | None = None) -> AttemptRecord:
    return AttemptRecord("p", "m", "u", "chat", first_chunk is not None, started, "a" * 16, first_chunk=first_chunk,
                         ended=ended)  # fmt: skip


def test_overhead_leaves_out_waits_for_others() -> None:
    record = RequestRecord(
        hops=[
            (AUTH, 10.0, 10.5, OK), (RECEIVE, 10.5, 12.0, OK), (QUEUE, 12.0, 13.0, OK),
            (RETRY_WAIT, 14.0, 15.0, "provider_unavailable"), (FALLBACK, 15.0, 15.0, "provider_unavailable"),
        ],
        attempts=[attempt(13.0, 14.0), attempt(15.0, 18.0)],
        first_byte=18.25,
    )  # fmt: skip
    assert record.overhead(10.0, 19.0) == pytest.approx(0.75)


def test_overhead_of_stream_ends_with_its_first_byte() -> None:
    record = RequestRecord(attempts=[attempt(1.0, 60.0, first_chunk=3.0)], first_byte=3.5)
    assert record.overhead(0.5, 61.0) == pytest.approx(1.0)


def test_overhead_without_response_counts_until_the_end() -> None:
    assert RequestRecord(attempts=[attempt(1.0, None)]).overhead(0.5, 4.0) == pytest.approx(0.5)


def test_overhead_is_never_negative() -> None:
    record = RequestRecord(attempts=[attempt(0.0, 5.0), attempt(0.0, 5.0)])
    assert record.overhead(0.0, 5.0) == 0.0
