"""Traces of a real gateway: `flowbiz-platform serve` with its workers, its exporter and a real OTLP receiver."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PROVIDER_KEY, Platform
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.servers.ports import free_port
from tests.support.tracing.kept import PARENT_SPAN, TRACE_ID
from tests.support.tracing.otlp import Received, ReceivedSpan

RETRY = {
    "retry": {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02},
    "breaker": {"minimum_calls": 100_000},
}
PRICES = {"sim-ok": {"price": {"input_usd_per_million": 2, "output_usd_per_million": 8}}}
MESSAGES = [{"role": "user", "content": "canary-prompt-of-a-trace"}]
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_SPAN}-01"


@contextmanager
def _gateway(
    platform: Platform, simulator: ProviderSimulator, collector: Received, directory: Path, **variables: str
) -> Iterator[Gateway]:
    config = write_catalog(
        directory / "platform.yaml",
        {"one": {"base_url": simulator.base_url}, "two": {"base_url": simulator.base_url}},
        {
            "falls-back": [("one", "sim-server-error"), ("two", "sim-ok")],
            "works": [("one", "sim-ok")],
            "fails": [("one", "sim-server-error")],
            "breaks": [("one", "sim-stream-drop")],
        },
        PRICES,
        policies=RETRY,
        rate_limits=GENEROUS,
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "works",
        "PLATFORM_TRACE_SAMPLE_RATIO": "0",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        **variables,
    }
    with Gateway(environment, directory) as gateway:
        yield gateway


async def _chat(
    client: httpx.AsyncClient, gateway: Gateway, key: str, model: str, stream: bool = True, **headers: str
) -> httpx.Response:
    body: dict[str, Any] = {"model": model, "messages": MESSAGES, "stream": stream, "max_tokens": 50}
    url = f"{gateway.base_url}/v1/chat/completions"
    return await client.post(url, json=body, headers={"authorization": f"Bearer {key}", **headers})


def _check_retry_and_fallback(spans: list[ReceivedSpan], simulator: ProviderSimulator) -> None:
    server = next(span for span in spans if span.parent_id == PARENT_SPAN)
    assert server.name == "POST /v1/chat/completions"
    assert server.attributes["platform.model"] == "falls-back"
    assert not server.failed
    attempts = [span for span in spans if span.name.startswith("chat ")]
    assert [span.name for span in attempts] == ["chat sim-server-error"] * 2 + ["chat sim-ok"]
    assert [span.failed for span in attempts] == [True, True, False]
    assert {span.parent_id for span in spans if span is not server} == {server.span_id}
    assert {"auth", "limits", "retry_wait"} <= {span.name for span in spans}
    assert [name for name, _ in server.events] == ["fallback"]
    last = attempts[-1].attributes
    assert last["gen_ai.request.stream"] is True
    assert last["gen_ai.usage.output_tokens"] > 0
    assert last["gen_ai.response.time_to_first_chunk"] >= 0
    assert last["platform.cost_usd"] > 0
    sent = [
        record.traceparent
        for record in (*simulator.requests("sim-server-error"), *simulator.requests("sim-ok"))
        if record.traceparent and TRACE_ID in record.traceparent
    ]
    assert sent == [f"00-{TRACE_ID}-{span.span_id}-01" for span in attempts]


async def test_retry_and_fallback_are_one_trace_over_http(
    platform: Platform, simulator: ProviderSimulator, http_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Each provider got a traceparent that names the span of its attempt, in the caller's trace."""
    simulator.reset()
    with _gateway(platform, simulator, http_collector, tmp_path) as gateway:
        response = await _chat(client, gateway, chat_key, "falls-back", traceparent=TRACEPARENT)
        assert response.status_code == 200
        assert TRACE_ID in response.headers["traceparent"]
        spans = http_collector.trace(TRACE_ID, 8)
        _check_retry_and_fallback(spans, simulator)
        assert gateway.access_line(response.headers["x-request-id"])["trace_id"] == TRACE_ID
    for raw in http_collector.raw:
        for canary in (MESSAGES[0]["content"], PROVIDER_KEY, chat_key):
            assert canary.encode() not in raw


async def test_retry_and_fallback_are_one_trace_over_grpc(
    platform: Platform, simulator: ProviderSimulator, grpc_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path,
) -> None:  # fmt: skip
    simulator.reset()
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with _gateway(platform, simulator, grpc_collector, tmp_path, **variables) as gateway:
        response = await _chat(client, gateway, chat_key, "falls-back", traceparent=TRACEPARENT)
        assert response.status_code == 200
        _check_retry_and_fallback(grpc_collector.trace(TRACE_ID, 8), simulator)


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_failures_have_traces_at_ratio_zero_and_successes_none(
    platform: Platform, simulator: ProviderSimulator, http_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path, stream: bool,
) -> None:  # fmt: skip
    """The failures come after the successes and through the same pipe: what is not there by then does not come."""
    unhurried = {"PLATFORM_TRACE_SLOW_OVERHEAD_MS": "60000", "PLATFORM_TRACE_SLOW_SECONDS": "3600"}
    with _gateway(platform, simulator, http_collector, tmp_path, **unhurried) as gateway:
        for _ in range(3):
            assert (await _chat(client, gateway, chat_key, "works", stream)).status_code == 200
        failed = await _chat(client, gateway, chat_key, "fails", stream)
        assert failed.status_code >= 500
        failed_id = failed.headers["traceparent"].split("-")[1]
        spans = http_collector.trace(failed_id, 5)
        server = next(span for span in spans if not span.parent_id)
        assert server.failed
        assert server.attributes["platform.trace.kept"] == "failed"
        assert {span.trace_id for span in http_collector.spans} == {failed_id}


async def test_stream_that_breaks_late_has_a_trace(
    platform: Platform, simulator: ProviderSimulator, http_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Its status is 200: the head was sent before the provider failed."""
    with _gateway(platform, simulator, http_collector, tmp_path) as gateway:
        response = await _chat(client, gateway, chat_key, "breaks")
        assert response.status_code == 200
        spans = http_collector.trace(response.headers["traceparent"].split("-")[1], 4)
        server = next(span for span in spans if not span.parent_id)
        assert server.failed
        assert server.attributes["error.type"]
        assert next(span for span in spans if span.name == "chat sim-stream-drop").failed


async def test_one_trace_id_finds_a_request_everywhere(
    platform: Platform, simulator: ProviderSimulator, http_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path,
) -> None:  # fmt: skip
    """In the response, the access line, the trace, an exemplar, the access decision and the usage record."""
    reader = platform.key("platform:*")
    with _gateway(platform, simulator, http_collector, tmp_path, PLATFORM_TRACE_SAMPLE_RATIO="1") as gateway:
        response = await _chat(client, gateway, chat_key, "falls-back")
        trace_id, request_id = response.headers["traceparent"].split("-")[1], response.headers["x-request-id"]
        assert gateway.access_line(request_id)["trace_id"] == trace_id
        assert http_collector.trace(trace_id, 8)
        url = f"{gateway.base_url}/v1/platform/requests/{trace_id}"
        async with asyncio.timeout(300):
            while not (found := await _found(client, url, reader)):
                await asyncio.sleep(0.05)
            while f'trace_id="{trace_id}"' not in await _open_metrics(client, gateway):
                await asyncio.sleep(0.05)
    assert found["access"]["request_id"] == request_id
    assert found["access"]["trace_id"] == trace_id
    assert found["usage"]["upstream_model"] == "sim-ok"
    assert [attempt["outcome"] for attempt in found["attempts"]] == ["provider_error", "provider_error", "ok"]


@pytest.mark.skipif(find_prometheus() is None, reason="no prometheus program is installed")
async def test_prometheus_stores_exemplars(
    platform: Platform, simulator: ProviderSimulator, http_collector: Received, client: httpx.AsyncClient,
    chat_key: str, tmp_path: Path,
) -> None:  # fmt: skip
    """A dashboard that asks a real Prometheus for exemplars of the overhead finds the request's trace."""
    with _gateway(platform, simulator, http_collector, tmp_path, PLATFORM_TRACE_SAMPLE_RATIO="1") as gateway:
        config = gateway_config(f"127.0.0.1:{gateway.metrics_port}", [], scrape_interval="1s")
        prometheus = EmbeddedPrometheus(tmp_path / "prometheus", config, port=free_port())
        await asyncio.to_thread(prometheus.start)
        try:
            response = await _chat(client, gateway, chat_key, "works", stream=False)
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
