"""Who imports OpenTelemetry: the exporter's process, and no worker."""

import subprocess
import sys

import pytest

_MODULES = "import sys; print(sorted({name.partition('.')[0] for name in sys.modules}))"


def _imported(statement: str) -> str:
    command = [sys.executable, "-c", f"{statement}; {_MODULES}"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.mark.parametrize("module", ["apps.platform_api.__main__", "apps.platform_api.main", "apps.platform_cli.main"])
def test_worker_and_parent_import_no_opentelemetry(module: str) -> None:
    imported = _imported(f"import {module}")
    assert "'platform_app'" in imported
    assert "'opentelemetry'" not in imported
    assert "'grpc'" not in imported


def test_exporter_over_http_imports_no_grpc() -> None:
    imported = _imported(
        "from apps.trace_exporter.pipeline import otlp_exporter; import apps.trace_exporter.__main__; otlp_exporter()"
    )
    assert "'opentelemetry'" in imported
    assert "'grpc'" not in imported
