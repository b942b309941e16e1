"""Metrics: names that stay apart, and labels of closed sets."""

import asyncio
import re
import time

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from platform_app.errors import ProviderTimeout
from platform_app.observability import metrics
from platform_app.observability.record import AttemptRecord
from platform_app.observability.request.provider_call import ProviderCall
from tests.support.fakes.core import Count

ALL = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}

CLOSED = {
    "addresses",  # own or other
    "action",  # of a key's lifecycle
    "field",  # of ours that a client fills in
    "method",  # of HTTP, `other` for what is not known
    "route",  # templates
    "status",
    "outcome",
    "decision",
    "mode",
    "rule",  # names from the config file
    "provider",  # of the config file
    "host",  # of its base URL
    "model",  # names of the config file: public ones, breakers' those at the provider
    "code",  # of platform_app/errors.py
    "to",  # phases of a breaker
    "direction",
    "table",  # of the ledger
    "reason",  # constants of the code, or error codes
    "store",  # kinds of secret stores
    "version",
    "build_sha",
    "hop",  # HOPS of platform_app/observability/record.py
    "state",  # of a pool's connection: in_use, idle
    "file",  # of certificates, from the config file
    "gen_ai_operation_name",  # of our routes
    "gen_ai_provider_name",  # of the config file
    "gen_ai_request_model",  # of the config file
    "gen_ai_token_type",
    "error_type",  # error codes
}
"""Labels whose values no client chooses. A new one needs an argument, here."""


def names(metric: MetricWrapperBase) -> set[str]:
    return {metric._name, *(sample.name for family in metric.collect() for sample in family.samples)}


def test_no_two_metrics_share_a_name() -> None:
    seen: dict[str, str] = {}
    for variable, metric in ALL.items():
        for name in names(metric):
            assert name not in seen, f"{name} is both {seen[name]} and {variable}"
        seen |= dict.fromkeys(names(metric), variable)
    assert len(seen) > len(ALL) > 10


@pytest.mark.parametrize("variable", sorted(ALL))
def test_names_and_labels_follow_the_rules(variable: str) -> None:
    metric = ALL[variable]
    assert re.fullmatch(r"(platform|gen_ai_client)_[a-z_]+", metric._name)
    assert metric._documentation.endswith(".")
    assert set(metric._labelnames) <= CLOSED
    if isinstance(metric, Histogram):
        assert metric._name.endswith("_seconds") or metric is metrics.GEN_AI_TOKENS
    if isinstance(metric, Gauge):
        assert metric._multiprocess_mode != "all" or metric in metrics.OF_THE_PARENT, (
            "a gauge says how processes add up"
        )
    assert isinstance(metric, Counter | Gauge | Histogram)


def attempt() -> AttemptRecord:
    return AttemptRecord("p", "m", "upstream-m", "chat", True, time.perf_counter(), "00f067aa0ba902b7")


def test_successful_provider_call_is_counted() -> None:
    ok = Count("platform_provider_requests_total", provider="p", model="m", outcome="ok")
    seconds = Count("platform_provider_request_duration_seconds_count", provider="p", model="m")
    first = Count("platform_provider_first_chunk_seconds_count", provider="p", model="m")
    call = ProviderCall(attempt())
    call.first_chunk()
    call.end(None)
    assert (ok.grown, seconds.grown, first.grown) == (1, 1, 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ProviderTimeout("slow"), "provider_timeout"),
        (asyncio.CancelledError(), "client_closed"),
        (GeneratorExit(), "client_closed"),
        (ZeroDivisionError(), "internal_error"),
    ],
)
def test_failed_provider_call_is_counted_by_outcome(error: BaseException, outcome: str) -> None:
    counted = Count("platform_provider_requests_total", provider="p", model="m", outcome=outcome)
    ProviderCall(attempt()).end(error)
    assert counted.grown == 1
