"""Traces of a real gateway: `flowbiz-platform serve` with its workers, its exporter and a real OTLP receiver."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PROVIDER_KEY, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.observability.tracing.kept import PARENT_SPAN
from tests.support.observability.tracing.otlp import Received, ReceivedSpan, grpc_receiver, http_receiver
from tests.support.providers.wires import WIRES, url_of
from tests.support.servers.network.ports import free_port

POLICIES = {
    "retry": {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02},
    "breaker": {"minimum_calls": 100_000},
}
PRICES = {"sim-ok": {"price": {"input_usd_per_million": 2, "output_usd_per_million": 8}}}
PROMPT = "canary-prompt-of-a-trace"
UNHURRIED = {"PLATFORM_TRACE_SLOW_OVERHEAD_MS": "60000", "PLATFORM_TRACE_SLOW_SECONDS": "3600"}
"""No request is kept because it is slow."""
PAIRS = [
    pytest.param(CHAT, "openai", id="chat"),
    pytest.param(RESPONSES, "openai-responses", id="responses-native"),
    pytest.param(RESPONSES, "anthropic", id="responses-translated"),
    pytest.param(MESSAGES, "anthropic", id="messages-native"),
    pytest.param(MESSAGES, "openai", id="messages-translated"),
    pytest.param(MESSAGES, "mixed", id="messages-of-either-format"),
]
"""Each route, and the formats of its providers; `mixed` falls back from a translated call to a native one."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Traced:
    """A gateway, and the receiver of its spans."""

    gateway: Gateway
    collector: Received


@contextmanager
def _gateway(
    platform: Platform, simulator: ProviderSimulator, collector: Received, directory: Path, **variables: str
) -> Iterator[Gateway]:
    version = {"azure": {"api_version": "2024-10-21"}}
    providers = {
        f"{wire}-{name}": {"wire_format": wire, "base_url": url_of(wire, simulator), **version.get(wire, {})}
        for wire in WIRES
        for name in ("one", "two")
    }
    models = {
        f"{wire}/{name}": [(f"{wire}-{provider}", model) for provider, model in ways]
        for wire in WIRES
        for name, ways in {
            "falls-back": [("one", "sim-server-error"), ("two", "sim-ok")],
            "works": [("one", "sim-ok")],
            "fails": [("one", "sim-server-error")],
            "breaks": [("one", "sim-stream-drop")],
        }.items()
    }
    models["mixed/falls-back"] = [("openai-responses-one", "sim-server-error"), ("anthropic-two", "sim-ok")]
    config = write_catalog(
        directory / "platform.yaml", providers, models, PRICES, policies=POLICIES, rate_limits=GENEROUS
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "openai/works",
        "PLATFORM_TRACE_SAMPLE_RATIO": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **variables,
    }
    with Gateway(environment, directory) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def kept_at_zero(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    """A gateway that samples no request, so it keeps only those that failed, or that the client wants to be kept."""
    with http_receiver() as collector:
        directory = tmp_path_factory.mktemp("kept-at-zero")
        with _gateway(platform, simulator, collector, directory, **UNHURRIED) as gateway:
            yield Traced(gateway, collector)


@pytest.fixture(scope="module")
def all_kept(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Traced]:
    """A gateway that keeps each request."""
    with http_receiver() as collector:
        directory = tmp_path_factory.mktemp("all-kept")
        with _gateway(platform, simulator, collector, directory, PLATFORM_TRACE_SAMPLE_RATIO="1") as gateway:
            yield Traced(gateway, collector)


@pytest.fixture
def trace_id() -> str:
    """A trace that no other test has."""
    return f"{next(_numbers):032x}"


async def _chat(
    client: httpx.AsyncClient, gateway: Gateway, key: str, model: str, stream: bool = True, route: ChatRoute = CHAT,
    trace_id: str | None = None,
) -> httpx.Response:  # fmt: skip
    headers = {"authorization": f"Bearer {key}", **route.headers}
    if trace_id is not None:
        headers["traceparent"] = f"00-{trace_id}-{PARENT_SPAN}-01"
    body = route.body(PROMPT, max_tokens=50, model=model, stream=stream)
    return await client.post(gateway.base_url + route.path, json=body, headers=headers)


def _check_retry_and_fallback(
    spans: list[ReceivedSpan], simulator: ProviderSimulator, trace_id: str, model: str, path: str
) -> None:
    server = next(span for span in spans if span.parent_id == PARENT_SPAN)
    assert server.name == f"POST {path}"
    assert server.attributes["platform.model"] == model
    assert not server.failed
    attempts = [span for span in spans if span.name.startswith("chat ")]
    assert [span.name for span in attempts] == ["chat sim-server-error"] * 2 + ["chat sim-ok"]
    assert [span.failed for span in attempts] == [True, True, False]
    assert {span.parent_id for span in spans if span is not server} == {server.span_id}
    assert {"auth", "limits", "retry_wait"} <= {span.name for span in spans}
    assert [name for name, _ in server.events] == ["fallback"]
    last = attempts[-1].attributes
    assert last["gen_ai.request.stream"] is True
    assert last["gen_ai.request.max_tokens"] == 50
    assert last["gen_ai.usage.input_tokens"] > 0
    assert last["gen_ai.usage.output_tokens"] > 0
    assert last["gen_ai.response.finish_reasons"] == ["stop"]
    assert last["gen_ai.response.time_to_first_chunk"] >= 0
    assert last["platform.cost_usd"] > 0
    sent = [
        record.traceparent
        for record in (*simulator.requests("sim-server-error"), *simulator.requests("sim-ok"))
        if record.traceparent and trace_id in record.traceparent
    ]
    assert sent == [f"00-{trace_id}-{span.span_id}-01" for span in attempts]


@pytest.mark.parametrize(("route", "wire"), PAIRS)
async def test_retry_and_fallback_are_one_trace_over_http(
    kept_at_zero: Traced, simulator: ProviderSimulator, client: httpx.AsyncClient, chat_key: str, trace_id: str,
    route: ChatRoute, wire: str,
) -> None:  # fmt: skip
    """Each provider got a traceparent that names the span of its attempt, in the caller's trace."""
    gateway, collector = kept_at_zero.gateway, kept_at_zero.collector
    model = f"{wire}/falls-back"
    response = await _chat(client, gateway, chat_key, model, route=route, trace_id=trace_id)
    assert (response.status_code, route.is_complete(response.content)) == (200, True)
    assert trace_id in response.headers["traceparent"]
    _check_retry_and_fallback(collector.trace(trace_id, 8), simulator, trace_id, model, route.path)
    assert gateway.access_line(response.headers["x-request-id"])["trace_id"] == trace_id
    for raw in collector.raw:
        for canary in (PROMPT, PROVIDER_KEY, chat_key):
            assert canary.encode() not in raw


async def test_retry_and_fallback_are_one_trace_over_grpc(
    platform: Platform, simulator: ProviderSimulator, client: httpx.AsyncClient, chat_key: str, trace_id: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with grpc_receiver() as collector, _gateway(platform, simulator, collector, tmp_path, **variables) as gateway:
        response = await _chat(client, gateway, chat_key, "openai/falls-back", trace_id=trace_id)
        assert response.status_code == 200
        spans = collector.trace(trace_id, 8)
        _check_retry_and_fallback(spans, simulator, trace_id, "openai/falls-back", CHAT.path)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
@pytest.mark.parametrize(("route", "wire"), PAIRS[:-1])
async def test_failures_have_traces_at_ratio_zero_and_successes_none(
    kept_at_zero: Traced, client: httpx.AsyncClient, chat_key: str, route: ChatRoute, wire: str, stream: bool
) -> None:
    """The failures come after the successes and through the same pipe: what is not there by then does not come."""
    gateway, collector = kept_at_zero.gateway, kept_at_zero.collector
    succeeded = set()
    for _ in range(3):
        response = await _chat(client, gateway, chat_key, f"{wire}/works", stream, route)
        assert response.status_code == 200
        succeeded.add(response.headers["traceparent"].split("-")[1])
    failed = await _chat(client, gateway, chat_key, f"{wire}/fails", stream, route)
    assert failed.status_code >= 500
    failed_id = failed.headers["traceparent"].split("-")[1]
    spans = collector.trace(failed_id, 5)
    server = next(span for span in spans if not span.parent_id)
    assert server.failed
    assert server.attributes["platform.trace.kept"] == "failed"
    assert not succeeded & {span.trace_id for span in collector.spans}


@pytest.mark.parametrize(("route", "wire"), PAIRS[:-1])
async def test_stream_that_breaks_late_has_a_trace(
    kept_at_zero: Traced, client: httpx.AsyncClient, chat_key: str, route: ChatRoute, wire: str
) -> None:
    """Its status is 200: the head was sent before the provider failed."""
    response = await _chat(client, kept_at_zero.gateway, chat_key, f"{wire}/breaks", route=route)
    assert response.status_code == 200
    spans = kept_at_zero.collector.trace(response.headers["traceparent"].split("-")[1], 4)
    server = next(span for span in spans if not span.parent_id)
    assert server.failed
    assert server.attributes["error.type"]
    assert next(span for span in spans if span.name == "chat sim-stream-drop").failed


@pytest.mark.parametrize(("route", "wire"), PAIRS[:-1])
async def test_one_trace_id_finds_a_request_everywhere(
    all_kept: Traced, platform: Platform, client: httpx.AsyncClient, chat_key: str, route: ChatRoute, wire: str
) -> None:
    """In the response, the access line, the trace, an exemplar, the access decision and the usage record."""
    gateway, reader = all_kept.gateway, platform.key("platform:*")
    response = await _chat(client, gateway, chat_key, f"{wire}/falls-back", route=route)
    trace_id, request_id = response.headers["traceparent"].split("-")[1], response.headers["x-request-id"]
    assert gateway.access_line(request_id)["trace_id"] == trace_id
    assert all_kept.collector.trace(trace_id, 8)
    url = f"{gateway.base_url}/v1/platform/requests/{trace_id}"
    async with asyncio.timeout(300):
        while not (found := await _found(client, url, reader)):
            await asyncio.sleep(0.05)
        while f'trace_id="{trace_id}"' not in await _open_metrics(client, gateway):
            await asyncio.sleep(0.05)
    assert found["access"]["request_id"] == request_id
    assert (found["access"]["trace_id"], found["access"]["route"]) == (trace_id, route.path)
    assert found["usage"]["upstream_model"] == "sim-ok"
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["provider_error", "provider_error", "ok"]


@pytest.mark.skipif(find_prometheus() is None, reason="no prometheus program is installed")
async def test_prometheus_stores_exemplars(
    all_kept: Traced, client: httpx.AsyncClient, chat_key: str, tmp_path: Path
) -> None:
    """A dashboard that asks a real Prometheus for exemplars of the overhead finds the request's trace."""
    config = gateway_config(f"127.0.0.1:{all_kept.gateway.metrics_port}", [], scrape_interval="1s")
    prometheus = EmbeddedPrometheus(tmp_path / "prometheus", config, port=free_port())
    await asyncio.to_thread(prometheus.start)
    try:
        response = await _chat(client, all_kept.gateway, chat_key, "openai/works", stream=False)
        trace_id = response.headers["traceparent"].split("-")[1]
        query = {"query": "platform_overhead_seconds_bucket", "start": "0", "end": "9999999999"}
        async with asyncio.timeout(300):
            while trace_id not in await _stored_traces(client, prometheus.url, query):
                await asyncio.sleep(0.2)
    finally:
        await asyncio.to_thread(prometheus.stop)


async def _stored_traces(client: httpx.AsyncClient, url: str, query: dict[str, str]) -> set[str]:
    found = (await client.get(f"{url}/api/v1/query_exemplars", params=query)).json()["data"]
    return {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}


async def _found(client: httpx.AsyncClient, url: str, key: str) -> dict[str, Any] | None:
    """Return the request once both of its rows are stored."""
    requests = (await client.get(url, headers={"x-api-key": key})).json().get("data", [])
    return next((each for each in requests if each["access"] and each["usage"]), None)


async def _open_metrics(client: httpx.AsyncClient, gateway: Gateway) -> str:
    url = f"http://127.0.0.1:{gateway.metrics_port}/metrics"
    return (await client.get(url, headers={"accept": "application/openmetrics-text; version=1.0.0"})).text
