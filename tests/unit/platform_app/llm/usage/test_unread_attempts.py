"""What a provider bills for attempts whose response was not read to its end."""

from typing import Any

import pytest

from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.token_estimate import usual_output_tokens
from platform_app.llm.usage.unread_attempts import STREAM_BYTES_PER_TOKEN, unread_usage
from platform_app.observability.record import AttemptRecord

PROMPT, MOST, USUAL = 10, 500, 100


def attempt(outcome: str = "client_closed", *, stream: bool = False, **fields: Any) -> AttemptRecord:
    record = AttemptRecord("sim", "big", "up-big", "chat", stream, 0.0, "5" * 16, outcome=outcome)
    for name, value in {"request_sent": True, **fields}.items():
        setattr(record, name, value)
    return record


def usage(*attempts: AttemptRecord) -> TokenUsage | None:
    return unread_usage(attempts, PROMPT, MOST, USUAL)


@pytest.mark.parametrize(
    ("record", "output"),
    [
        (attempt(), USUAL),  # the provider generates it to its end
        (attempt("provider_timeout"), USUAL),
        (attempt("provider_timeout", status=504), USUAL),  # a proxy in front of the provider timed out
        (attempt("ok"), USUAL),  # the client left before the response was returned
        (attempt(received_bytes=70), USUAL),
        (attempt(received_bytes=700), 200),
        (attempt(received_bytes=7_000), MOST),  # never more than the request allows
        (attempt("provider_bad_response", received_bytes=70), USUAL),
        (attempt("provider_bad_response", received_bytes=70, received_all=True), 20),
        (attempt(stream=True), 0),  # the provider stops
        (attempt(stream=True, received_bytes=1), 1),
        (attempt(stream=True, received_bytes=40 * STREAM_BYTES_PER_TOKEN), 40),
        (attempt("provider_bad_response", stream=True, received_bytes=10**9), MOST),
    ],
)
def test_attempt_is_estimated(record: AttemptRecord, output: int) -> None:
    assert usage(record) == TokenUsage(PROMPT, output, PROMPT + output)


@pytest.mark.parametrize(
    "record",
    [
        attempt(request_sent=False),
        attempt("provider_timeout", request_sent=False),  # no connection in time
        *(
            attempt(code)
            for code in ("provider_error", "provider_unavailable", "provider_rate_limited", "breaker_open")
        ),
    ],
)
def test_refused_attempt_costs_nothing(record: AttemptRecord) -> None:
    assert usage(record) is None


def test_attempts_are_added_up() -> None:
    attempts = [attempt("provider_error"), attempt("provider_bad_response"), attempt("provider_timeout")]
    assert usage(*attempts) == TokenUsage(2 * PROMPT, 2 * USUAL, 2 * (PROMPT + USUAL))
    assert usage() is None


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({}, 1024), ({"max_tokens": 16}, 16), ({"max_tokens": 32_000}, 1024), ({"max_completion_tokens": 5}, 5),
        ({"n": 3}, 3072), ({"n": 3, "max_tokens": 10}, 30), ({"max_tokens": "many"}, 1024),
    ],
)  # fmt: skip
def test_usual_output_is_bounded(fields: dict[str, object], tokens: int) -> None:
    assert usual_output_tokens({"messages": [], **fields}, 1024) == tokens
