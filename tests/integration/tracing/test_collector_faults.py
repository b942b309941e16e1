"""A collector that refuses, hangs or fails: spans are counted, memory is bounded, and no writer waits."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.observability.tracing.kept import TRACE_ID, kept_request
from tests.support.observability.tracing.otlp import WAIT_SECONDS, Received
from tests.support.observability.tracing.process import ExporterProcess, exporter_process
from tests.support.servers.network.ports import free_port

TRACES = 400
SPANS = 5 * TRACES
QUEUE = 100
"""Spans: 20 traces."""
MAX_GROWTH = 12 * 1024 * 1024
"""The queue has 20 traces of 56 kB, about 1 MB. All 400 would be 22 MB."""
SMALL = {"OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE), "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"}
FOREVER = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
"""The exporter waits for its first request during the whole test."""
LARGE_TEXT = "x" * 28_000


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _send_all(exporter: ExporterProcess) -> None:
    """Write every trace; the pipe takes them only while the exporter reads, whatever the collector does."""
    request = kept_request(content={"prompt": LARGE_TEXT, "output": LARGE_TEXT})
    for _ in range(TRACES):
        exporter.send(request)


def _settled(exporter: ExporterProcess) -> float:
    return exporter.spans("exported") + exporter.spans("failed") + exporter.spans("dropped")


def test_collector_that_hangs_costs_spans_and_no_memory(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    released = threading.Event()

    def hang() -> int:
        released.wait(WAIT_SECONDS)
        return 200

    http_collector.fault = hang
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment | SMALL | FOREVER) as exporter:
        exporter.send(kept_request())
        http_collector.wait_for_requests(1)
        before = exporter.resident_bytes()
        _send_all(exporter)
        _wait(lambda: exporter.spans("dropped") == SPANS - QUEUE)
        assert exporter.resident_bytes() - before < MAX_GROWTH
        released.set()
        exporter.stop()
        assert _settled(exporter) == SPANS + 5


@pytest.mark.parametrize("status", [500, 503, 401])
def test_collector_that_fails_is_counted_and_logged_once(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path, status: int
) -> None:
    http_collector.fault = lambda: status
    variables = {**SMALL, "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment | variables) as exporter:
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 5)
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 10)
        assert exporter.stop() == 0
        assert exporter.log().count("trace_export_failed") == 1
        assert '"level":"warning"' in exporter.log()


def test_redirect_counts_as_failed(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    """The SDK follows no redirect, and takes it for a success."""
    http_collector.fault = lambda: 301
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 5)
        _wait(lambda: "responded with 301" in exporter.log())
        assert exporter.spans("exported") == 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_rejected_spans_count_as_failed(
    protocol: str,
    http_collector: Received,
    grpc_collector: Received,
    settings_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    collector = grpc_collector if protocol == "grpc" else http_collector
    collector.rejected = 2
    variables = {**settings_environment, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with exporter_process(tmp_path, collector.endpoint, variables) as exporter:
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 2)
        _wait(lambda: "over the quota" in exporter.log())
        assert exporter.spans("exported") == 3


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_blank_variables_and_proxies_do_not_stop_exports(
    protocol: str,
    http_collector: Received,
    grpc_collector: Received,
    settings_environment: dict[str, str],
    tmp_path: Path,
) -> None:
    collector = grpc_collector if protocol == "grpc" else http_collector
    proxy = f"http://127.0.0.1:{free_port()}"
    variables = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": f"{protocol} ",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": " ",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "",
        "OTEL_EXPORTER_OTLP_INSECURE": "",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "grpc_proxy"), proxy),
        "no_proxy": "",
    }
    with exporter_process(tmp_path, f"{collector.endpoint}\r", settings_environment | variables) as exporter:
        exporter.send(kept_request())
        assert len(collector.trace(TRACE_ID, 5)) == 5


def test_variable_that_the_exporter_refuses_is_named(
    grpc_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    """Exit code 2: the parent does not start it again."""
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_COMPRESSION": "deflate"}
    with exporter_process(tmp_path, grpc_collector.endpoint, settings_environment | variables) as exporter:
        assert exporter.process.wait(WAIT_SECONDS) == 2
        assert "OTEL_EXPORTER_OTLP_COMPRESSION" in exporter.log()
        assert "trace_exporter_not_started" in exporter.log()


def test_collector_that_refuses_connections_is_named_in_log(
    settings_environment: dict[str, str], tmp_path: Path
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_TIMEOUT": "3"}  # with a second try: its reason is the log line's
    with exporter_process(tmp_path, f"http://127.0.0.1:{free_port()}", settings_environment | variables) as exporter:
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 5)
        _wait(lambda: "trace_export_failed" in exporter.log())
        assert "refused" in exporter.log()


def test_export_continues_when_collector_recovers(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    http_collector.fault = lambda: 400
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request())
        _wait(lambda: exporter.spans("failed") == 5)
        http_collector.fault = lambda: 200
        exporter.send(kept_request())
        assert len(http_collector.trace(TRACE_ID, 5)) == 5
        _wait(lambda: "trace_export_recovered" in exporter.log())


def test_end_waits_for_collector_only_for_bounded_time(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    """The collector hangs for good: the process ends all the same, and the spans count as dropped."""
    http_collector.fault = lambda: _block()
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request())
        http_collector.wait_for_requests(1)
        assert exporter.stop(WAIT_SECONDS) == 0
        assert _settled(exporter) == 5


def _block() -> int:
    threading.Event().wait(WAIT_SECONDS)
    return 200
