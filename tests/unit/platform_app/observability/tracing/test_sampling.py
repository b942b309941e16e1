"""Which requests leave a trace."""

import random

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from platform_app.observability.context import RequestContext
from platform_app.observability.record import AttemptRecord
from platform_app.observability.tracing.sampling import KeepRule, Kept, RatioSampler
from platform_app.observability.tracing.trace_context import TraceContext, continue_trace


def request(*, sampled: bool = False, reason: str | None = None, outcome: str = "ok") -> RequestContext:
    context = RequestContext("id", TraceContext("1" * 32, "2" * 16, None, sampled), "POST", "192.0.2.1", 100.0)
    context.reason = reason
    context.record.attempts.append(AttemptRecord("p", "m", "u", "chat", True, 100.0, "3" * 16, outcome=outcome))
    return context


def rule(per_second: float = 100.0) -> KeepRule:
    return KeepRule(slow_seconds=60.0, slow_overhead_seconds=0.25, per_second=per_second)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_ratio_decides_as_opentelemetry_does(ratio: float) -> None:
    ours, theirs, chance = RatioSampler(ratio), TraceIdRatioBased(ratio), random.Random(7)
    for _ in range(2000):
        trace_id = chance.getrandbits(128) or 1
        expected = theirs.should_sample(None, trace_id, "chat").decision is Decision.RECORD_AND_SAMPLE
        assert ours(f"{trace_id:032x}") is expected


@pytest.mark.parametrize("flag", ["00", "01"])
def test_callers_flag_has_precedence_over_ratio(flag: str) -> None:
    traceparent = f"00-{'a' * 32}-{'b' * 16}-{flag}"
    assert continue_trace(traceparent, RatioSampler(0.0)).sampled is (flag == "01")
    assert continue_trace(traceparent, RatioSampler(1.0)).sampled is (flag == "01")


def test_sampled_request_is_kept_whatever_its_end() -> None:
    assert rule(per_second=0).decide(request(sampled=True), 200, 100.1, 0.001) is Kept.SAMPLED


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_failed_request_is_kept(status: int) -> None:
    assert rule().decide(request(reason="any"), status, 100.1, 0.001) is Kept.FAILED


def test_stream_that_fails_after_its_head_is_kept() -> None:
    failed = request(reason="provider_bad_response", outcome="provider_bad_response")
    assert rule().decide(failed, 200, 100.1, 0.001) is Kept.FAILED


@pytest.mark.parametrize(("ended", "overhead"), [(160.5, 0.001), (101.0, 0.3)])
def test_slow_request_is_kept(ended: float, overhead: float) -> None:
    assert rule().decide(request(), 200, ended, overhead) is Kept.SLOW


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (200, None, "ok"), (401, "invalid_api_key", "ok"), (429, "rate_limited", "ok"),
        (499, "client_closed", "client_closed"), (200, "idempotent_replay", "ok"),
    ],
)  # fmt: skip
def test_fast_request_without_fault_of_ours_is_dropped(status: int, reason: str | None, outcome: str) -> None:
    assert rule().decide(request(reason=reason, outcome=outcome), status, 100.1, 0.001) is None


def test_failures_are_kept_up_to_the_rate() -> None:
    bounded = rule(per_second=5)
    kept = [bounded.decide(request(reason="any"), 503, 1000.0, 0.0) for _ in range(100)]
    assert kept.count(Kept.FAILED) == 5
    kept = [bounded.decide(request(reason="any"), 503, 1000.0 + step / 100, 0.0) for step in range(101)]
    assert kept.count(Kept.FAILED) == 5
