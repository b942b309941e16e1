"""Who makes spans: the exporter's process, and no worker.

FastAPI imports OpenTelemetry's API, and redis-py the SDK's metrics if they are installed. Neither makes spans.
"""

import subprocess
import sys

import pytest

_SPANS = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "grpc", "google.protobuf")


def _imported(statement: str) -> set[str]:
    command = [sys.executable, "-c", f"{statement}; import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split())


@pytest.mark.parametrize("module", ["apps.platform_api.__main__", "apps.platform_cli.main"])
def test_worker_and_parent_import_nothing_that_makes_spans(module: str) -> None:
    imported = _imported(f"import {module}")
    assert "platform_app" in imported
    assert not imported.intersection(_SPANS)


def test_exporter_over_http_imports_no_grpc() -> None:
    exporter = "from apps.trace_exporter import __main__, pipeline, responses"
    imported = _imported(f"{exporter}; pipeline.otlp_exporter(responses.CollectorResponse())")
    assert "opentelemetry.sdk.trace" in imported
    assert "grpc" not in imported
