"""The texts of hops and attempts: what they hold, how they are read, and that they stay within their bounds."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.ledger.events.event import MAX_LINE_BYTES, AccessDecision, decode
from platform_app.ledger.events.hops_and_attempts import (
    MAX_ATTEMPTS_TEXT,
    MAX_HOPS_TEXT,
    attempts_text,
    hops_text,
    shown_attempts,
    shown_hops,
)
from platform_app.observability.record import HOPS, AttemptRecord
from tests.support.ledger.events import access

START = 1000.0


def attempt(**fields: Any) -> AttemptRecord:
    return AttemptRecord(
        **{
            "provider": "openai",
            "model": "gpt",
            "upstream_model": "gpt-2026",
            "operation": "chat",
            "stream": False,
            "span_id": "0123456789abcdef",
            "started": START + 0.25,
            "ended": START + 0.75,
            "outcome": "provider_error",
            "status": 500,
            "upstream_request_id": "req_1",
            "message": "The server had an error.",
            **fields,
        }
    )


def test_short_hop_that_succeeded_is_left_out() -> None:
    hops = [("auth", START, START + 0.00002, "ok"), ("limits", START + 0.25, START + 0.375, "ok")]
    assert hops_text(hops, START) == "limits 250000 125000"
    assert shown_hops("limits 250000 125000") == [
        {"name": "limits", "start_ms": 250.0, "duration_ms": 125.0, "outcome": "ok"}
    ]
    assert hops_text(hops[:1], START) is None


def test_hop_that_was_cut_is_not_shown() -> None:
    assert [hop["name"] for hop in shown_hops("limits 1 2,queue 3")] == ["limits"]


def test_failed_hop_keeps_time_and_outcome() -> None:
    text = hops_text([("fallback", START + 0.25, START + 0.25, "provider_timeout")], START)
    assert text == "fallback 250000 0 provider_timeout"
    assert shown_hops(text)[0]["outcome"] == "provider_timeout"
    assert shown_hops(text)[0]["start_ms"] == 250.0


def test_request_without_hops_and_attempts_has_no_texts() -> None:
    assert (hops_text([], START), attempts_text([], START)) == (None, None)


def test_only_attempt_that_succeeded_has_no_text() -> None:
    assert attempts_text([attempt(outcome="ok", status=200, message=None)], START) is None


def test_attempts_are_shown_in_milliseconds() -> None:
    failed, opened = (
        attempt(),
        attempt(span_id="", outcome="breaker_open", status=None, upstream_request_id=None, message=None),
    )
    text = attempts_text([failed, opened], START)
    assert text is not None
    assert shown_attempts(text) == shown_attempts(orjson.loads(text))
    first, second = shown_attempts(text)
    assert first == {
        "provider": "openai",
        "upstream_model": "gpt-2026",
        "start_ms": 250.0,
        "duration_ms": 500.0,
        "outcome": "provider_error",
        "status": 500,
        "upstream_request_id": "req_1",
        "sent": True,
        "message": "The server had an error.",
    }
    assert (second["outcome"], second["sent"], second["message"]) == ("breaker_open", False, None)


def test_attempt_that_has_not_ended_has_no_duration() -> None:
    text = attempts_text([attempt(ended=None, outcome="client_closed")], START)
    assert text is not None
    assert shown_attempts(text)[0]["duration_ms"] is None


def test_long_message_is_cut_and_its_control_characters_removed() -> None:
    text = attempts_text([attempt(message="a\n\x00\x1b[31m" + "x" * 5000)], START)
    assert text is not None
    [shown] = shown_attempts(text)
    assert shown["message"].startswith("a [31mxxx")
    assert len(shown["message"]) == 300


texts = st.text(max_size=400)
attempts = st.lists(
    st.builds(
        attempt,
        provider=texts,
        upstream_model=texts,
        outcome=st.sampled_from(["ok", "provider_error", "breaker_open", "overloaded"]),
        status=st.none() | st.integers(100, 599),
        upstream_request_id=st.none() | texts,
        message=st.none() | texts,
        ended=st.none() | st.floats(START, START + 600),
    ),
    max_size=30,
)


@given(attempts)
def test_any_attempts_survive_the_line(made: list[AttemptRecord]) -> None:
    text = attempts_text(made, START)
    event = decode(access(attempts=text).line())
    assert isinstance(event, AccessDecision)
    assert event.attempts == text
    if text is not None:
        assert len(text.encode()) <= MAX_ATTEMPTS_TEXT
        assert len(shown_attempts(text)) <= 12


hops = st.lists(
    st.tuples(
        st.sampled_from(HOPS),
        st.floats(START, START + 600),
        st.floats(START, START + 600),
        st.sampled_from(["ok", "provider_rate_limited"]),
    ),
    max_size=100,
)


@given(hops)
def test_any_hops_survive_the_line(made: list[tuple[str, float, float, str]]) -> None:
    text = hops_text(made, START)
    event = decode(access(hops=text).line())
    assert isinstance(event, AccessDecision)
    assert event.hops == (text and text[:MAX_HOPS_TEXT])
    if event.hops is not None:
        shown = shown_hops(event.hops)
        kept = [name for name, start, end, outcome in made if end - start >= 1e-4 or outcome != "ok"]
        assert [hop["name"] for hop in shown] == kept[: len(shown)]
        assert len(shown) >= min(len(kept), 30)


@pytest.mark.parametrize("letter", ["x", '"', "\\", "\u00fc", "\U0001f600"])
def test_longest_line_is_accepted(letter: str) -> None:
    longest = letter * 1000
    many = [attempt(provider=longest, upstream_model=longest, upstream_request_id=longest, message=longest)] * 30
    slow = [("retry_wait", START, START + 99999.0, "provider_quota_exhausted")] * 99
    event = access(
        owner=longest,
        model=longest,
        request_id=longest,
        route=longest,
        hops=hops_text(slow, START),
        attempts=attempts_text(many, START),
    )
    line = event.line()
    assert len(line) <= MAX_LINE_BYTES
    assert isinstance(decode(line), AccessDecision)
