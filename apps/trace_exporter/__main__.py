"""The exporter's process: `python -m apps.trace_exporter FD FD ...`, each the reading end of one worker's pipe.

The parent process starts it, and starts it again if it ends (docs/adr/0033).
"""

import contextlib
import os
import signal
import sys
from importlib.metadata import version
from pathlib import Path

from apps.trace_exporter.conventions import model_names
from apps.trace_exporter.environment import prepare_environment
from apps.trace_exporter.exemplars import LatestExemplars
from apps.trace_exporter.exporter import Exporter
from apps.trace_exporter.pipeline import Pipeline, otlp_exporter, protocol_problem, resource
from apps.trace_exporter.pipes import PipeReader
from apps.trace_exporter.responses import CollectorResponse
from apps.trace_exporter.spans import SpanBuilder
from platform_app.config import load_settings
from platform_app.observability.logging import configure_logging, get_logger
from platform_app.observability.logs.secret_settings import hide_secrets_of
from platform_app.observability.logs.unhandled import capture_unhandled

NICE = 19
"""Workers have priority: without spare CPU, traces are dropped and counted."""


def main() -> int:
    """Export traces until SIGTERM. Return the exit code."""
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _yield_to_workers()
    metrics_directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if metrics_directory:
        # Importing the metrics made this process's gauges, all 0: they would count as those of a worker.
        for gauges in Path(metrics_directory).glob(f"gauge_*_{os.getpid()}.db"):
            gauges.unlink()
    settings = load_settings()
    sink = configure_logging(settings.log_level, settings.log_format)
    hide_secrets_of(settings)
    capture_unhandled()
    log = get_logger("trace_exporter")
    prepare_environment(os.environ)
    pipeline, problem = _pipeline()
    if pipeline is None:
        log.error("trace_exporter_not_started", problem=problem)
        sink.close()
        return 2
    build = version("flowbiz-ai-platform")
    builder = SpanBuilder(resource(build), model_names(settings.trace_names), build)
    exemplars = LatestExemplars(Path(metrics_directory)) if metrics_directory else None
    log.info("trace_exporter_started", names=settings.trace_names, pipes=len(sys.argv) - 1)
    Exporter(PipeReader([int(number) for number in sys.argv[1:]]), builder, pipeline, exemplars).run(lambda: stopping)
    sink.close()
    return 0


def _pipeline() -> tuple[Pipeline | None, str | None]:
    """Return the pipeline, or why OpenTelemetry's variables cannot be used. Then another start would not help."""
    if problem := protocol_problem():
        return None, problem
    response = CollectorResponse()
    try:
        return Pipeline(otlp_exporter(response), response), None
    except Exception as error:  # noqa: BLE001 - whatever a value of a variable raises in a library
        return None, f"OpenTelemetry refuses the OTEL_* variables: {type(error).__name__}: {error}"


def _yield_to_workers() -> None:
    """Lower the priority of this process. Where Linux groups processes by session, as by default, `nice` counts within
    the session only, and the group has a value for itself. The parent starts this process in a separate session; in
    any other, the value would slow down all processes of the session."""
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICE))


if __name__ == "__main__":
    os._exit(main())  # an export that hangs must not delay the end
