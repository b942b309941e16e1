"""The exporter's process against real OTLP receivers."""

import os
import time
from pathlib import Path

import pytest

from platform_app.observability.exemplars import read_exemplars
from tests.support.observability.tracing.kept import SERVER_SPAN, TRACE_ID, kept_attempt, kept_request
from tests.support.observability.tracing.otlp import WAIT_SECONDS, Received
from tests.support.observability.tracing.process import exporter_process

AUTOGROUP = Path("/proc/self/autogroup")


def test_trace_over_http_arrives_with_resource(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    variables = {"OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging,team=search"}
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment | variables) as exporter:
        exporter.send(kept_request())
        server, auth, limits, attempt, ledger = http_collector.trace(TRACE_ID, 5)
        assert server.span_id == SERVER_SPAN
        assert [span.name for span in (auth, limits, ledger)] == ["auth", "limits", "ledger"]
        assert {span.parent_id for span in (auth, limits, attempt, ledger)} == {SERVER_SPAN}
        assert attempt.name == "chat gpt-5-mini"
        assert attempt.attributes["gen_ai.usage.input_tokens"] == 100
        assert attempt.attributes["gen_ai.response.finish_reasons"] == ["stop"]
        assert server.resource.items() >= {
            "service.name": "flowbiz-platform", "deployment.environment.name": "staging", "team": "search"
        }.items()  # fmt: skip
        assert server.resource["service.version"]
        assert exporter.stop() == 0
        assert exporter.spans("exported") == 5
        assert exporter.spans("failed") == exporter.spans("dropped") == 0


def test_trace_over_grpc_arrives(
    grpc_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    variables = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_SERVICE_NAME": "gateway-eu"}
    with exporter_process(tmp_path, grpc_collector.endpoint, settings_environment | variables) as exporter:
        exporter.send(kept_request())
        spans = grpc_collector.trace(TRACE_ID, 5)
        assert spans[0].resource["service.name"] == "gateway-eu"
        assert exporter.stop() == 0


def test_damaged_lines_are_counted_and_skipped(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment, pipes=2) as exporter:
        exporter.write(b'\n{"torn": \n[]\nnull\n')
        exporter.write(b'{"trace_id": "x"}\n', pipe=1)
        exporter.send(kept_request(), pipe=1)
        http_collector.trace(TRACE_ID, 5)
        assert exporter.stop() == 0
        assert exporter.counter("platform_traces_dropped_total", reason="damaged") == 4


def test_exporter_ends_when_every_writer_has_ended(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    """The parent and the workers may be killed; what they wrote is exported all the same."""
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request())
        os.close(exporter.writing.pop())
        assert exporter.process.wait(WAIT_SECONDS) == 0
        assert len(http_collector.trace(TRACE_ID, 5)) == 5


def test_exemplars_name_exported_traces(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request(overhead=2_000, attempts=[kept_attempt(started=0, ended=30_000)]))
        http_collector.trace(TRACE_ID, 5)
        exporter.stop()
        found = {(one.metric, *one.labels.values(), one.le): one for one in read_exemplars(exporter.metrics_directory)}
        route = "/v1/chat/completions"
        assert found["platform_overhead_seconds", route, "0.0025"].trace_id == TRACE_ID
        assert found["platform_overhead_seconds", route, "0.0025"].value == 0.002
        assert ("platform_http_request_duration_seconds", route, "1.0") in found
        assert ("platform_hop_duration_seconds", "provider", "0.05") in found
        series = ("gen_ai_client_operation_duration_seconds", "chat", "openai", "gpt-5-mini", "", "0.04")
        assert series in found


@pytest.mark.parametrize("variable", ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"])
def test_unknown_protocol_ends_with_message(
    settings_environment: dict[str, str], tmp_path: Path, variable: str
) -> None:
    environment = settings_environment | {variable: "http/json"}
    with exporter_process(tmp_path, "http://127.0.0.1:9", environment) as exporter:
        assert exporter.process.wait(WAIT_SECONDS) == 2
        assert f"{variable} is 'http/json'; use http/protobuf or grpc." in exporter.log()


def test_exporter_leaves_no_gauges_of_a_worker(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path
) -> None:
    """A gauge of 0 from this process would show as a worker that lost its listener, for example."""
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment) as exporter:
        exporter.send(kept_request())
        http_collector.trace(TRACE_ID, 5)
        assert [path.name for path in exporter.metrics_directory.glob("gauge_*.db")] == []
        deadline = time.monotonic() + WAIT_SECONDS
        while not exporter.spans("exported"):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="this kernel does not group processes by session")
@pytest.mark.parametrize("own_session", [True, False])
def test_exporter_lowers_priority_of_one_session_alone(
    http_collector: Received, settings_environment: dict[str, str], tmp_path: Path, own_session: bool
) -> None:
    """In the session of other processes, the value would slow down all of them."""
    before = AUTOGROUP.read_text()
    with exporter_process(tmp_path, http_collector.endpoint, settings_environment, own_session=own_session) as exporter:
        exporter.send(kept_request())
        http_collector.wait_for_requests(1)
        group = Path(f"/proc/{exporter.process.pid}/autogroup").read_text()
        assert group.endswith(" nice 19\n") == own_session
        assert os.getpriority(os.PRIO_PROCESS, exporter.process.pid) == 19
    assert AUTOGROUP.read_text() == before
