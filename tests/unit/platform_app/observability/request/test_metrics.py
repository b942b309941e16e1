"""One finished request in every metric that it changes."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from platform_app.llm.usage.counts import TokenUsage
from platform_app.observability.context import RequestContext
from platform_app.observability.record import AUTH, LIMITS, AttemptRecord
from platform_app.observability.request.metrics import count_request
from platform_app.observability.tracing.trace_context import continue_trace
from tests.support.fakes.core import Count

GEN_AI = {
    "gen_ai_operation_name": "chat",
    "gen_ai_provider_name": "p",
    "gen_ai_request_model": "upstream",
}


def request(**fields: Any) -> RequestContext:
    given = {"route": "/v1/test", "model": "public", **fields}
    return RequestContext("id", continue_trace(None), "POST", "192.0.2.1", started=100.0, **given)


def attempt(**fields: Any) -> AttemptRecord:
    given: dict[str, Any] = {"stream": False, "started": 100.5, "ended": 102.5, "span_id": "00f067aa0ba902b7", **fields}
    return AttemptRecord("p", "public", "upstream", "chat", **given)


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [(200, None, "ok"), (503, "provider_unavailable", "provider_error"), (429, "rate_limited", "denied")],
)
def test_request_is_counted_by_route_and_model(status: int, reason: str | None, outcome: str) -> None:
    by_route = Count("platform_requests_total", route="/v1/test", outcome=outcome)
    by_model = Count("platform_model_requests_total", model="public", outcome=outcome)
    http = Count("platform_http_requests_total", method="POST", route="/v1/test", status=str(status))
    count_request(request(reason=reason), status, 103.0, 0.004)
    assert (by_route.grown, by_model.grown, http.grown) == (1, 1, 1)


def test_request_without_known_model_counts_by_route_alone() -> None:
    before = {str(sample) for family in REGISTRY.collect() if family.name == "platform_model_requests"
              for sample in family.samples}  # fmt: skip
    count_request(request(model=None, reason="model_not_found"), 404, 101.0, 0.001)
    after = {str(sample) for family in REGISTRY.collect() if family.name == "platform_model_requests"
             for sample in family.samples}  # fmt: skip
    assert before == after


def test_hops_and_overhead_are_observed_in_seconds() -> None:
    context = request()
    context.record.hops += [(AUTH, 100.0, 100.25, "ok"), (LIMITS, 100.25, 100.5, "ok"), ("new", 100.5, 101.5, "ok")]
    auth, other = (Count("platform_hop_duration_seconds_sum", hop=hop) for hop in (AUTH, "other"))
    overhead = Count("platform_overhead_seconds_sum", route="/v1/test")
    fine = Count("platform_overhead_seconds_bucket", route="/v1/test", le="0.005")
    count_request(context, 200, 103.0, 0.00390625)
    assert (auth.grown, other.grown, overhead.grown, fine.grown) == (0.25, 1.0, 0.00390625, 1)


def test_attempts_are_observed_by_genai_conventions() -> None:
    context = request()
    usage = TokenUsage(100, 7, 107, 64)
    context.record.attempts += [
        attempt(outcome="provider_timeout", ended=101.5),
        attempt(outcome="breaker_open", span_id="", ended=None),
        attempt(stream=True, started=101.5, first_chunk=101.75, chunks=5, ended=102.75, usage=usage),
    ]
    failed = Count("gen_ai_client_operation_duration_seconds_sum", **GEN_AI, error_type="provider_timeout")
    succeeded = Count("gen_ai_client_operation_duration_seconds_sum", **GEN_AI, error_type="")
    first = Count("gen_ai_client_operation_time_to_first_chunk_seconds_sum", **GEN_AI)
    gaps = Count("gen_ai_client_operation_time_per_output_chunk_seconds_count", **GEN_AI)
    gap_seconds = Count("gen_ai_client_operation_time_per_output_chunk_seconds_sum", **GEN_AI)
    sent, received = (
        Count("gen_ai_client_token_usage_sum", **GEN_AI, gen_ai_token_type=t) for t in ("input", "output")
    )
    provider = Count("platform_hop_duration_seconds_count", hop="provider")
    count_request(context, 200, 103.0, 0.001)
    assert (failed.grown, succeeded.grown, provider.grown) == (1.0, 1.25, 2), "an attempt that was not sent has no time"
    assert (first.grown, gaps.grown, gap_seconds.grown) == (0.25, 4, 1.0)
    assert (sent.grown, received.grown) == (100, 7)
    unsent = {**GEN_AI, "error_type": "breaker_open"}
    assert REGISTRY.get_sample_value("gen_ai_client_operation_duration_seconds_count", unsent) is None


def test_attempt_that_still_runs_is_timed_to_the_requests_end() -> None:
    """The work continues for an Idempotency-Key after its client disconnected."""
    context = request()
    context.record.attempts.append(attempt(started=101.0, ended=None, outcome="ok"))
    seconds = Count("gen_ai_client_operation_duration_seconds_sum", **GEN_AI, error_type="")
    count_request(context, 499, 103.0, 0.001)
    assert seconds.grown == 2.0
