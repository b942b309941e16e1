"""The exporter's process, with pipes in place of workers."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from apps.platform_cli.serve.metrics.collector import WorkersCollector
from platform_app.observability.tracing.kept_request import KeptRequest


@dataclass
class ExporterProcess:
    """A running exporter. `writing` are the workers' ends of its pipes."""

    process: subprocess.Popen[bytes]
    writing: list[int]
    metrics_directory: Path
    log_file: Path

    def send(self, request: KeptRequest, pipe: int = 0) -> None:
        """Write a kept request as a worker does. Waits for place in the pipe."""
        self.write(request.line(), pipe)

    def write(self, data: bytes, pipe: int = 0) -> None:
        """Write bytes into a pipe."""
        while data:
            data = data[os.write(self.writing[pipe], data) :]

    def stop(self, timeout: float = 300) -> int:
        """Send SIGTERM and wait for the end. Return the exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    def spans(self, outcome: str) -> float:
        """Return the counter platform_trace_spans_total, as the parent reads it."""
        return self.counter("platform_trace_spans_total", outcome=outcome)

    def counter(self, name: str, **labels: str) -> float:
        """Return a counter of the exporter's process; 0 if it does not exist yet."""
        registry = CollectorRegistry()
        registry.register(WorkersCollector(lambda: self.metrics_directory))
        return registry.get_sample_value(name, labels) or 0.0

    def resident_bytes(self) -> int:
        """Return the memory of the process."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def log(self) -> str:
        """Return what the process has logged."""
        return self.log_file.read_text()


@contextmanager
def exporter_process(
    directory: Path, endpoint: str, environment: Mapping[str, str], pipes: int = 1, *, own_session: bool = False
) -> Iterator[ExporterProcess]:
    """Start an exporter for a collector at `endpoint`; kill it at the end."""
    ends = [os.pipe() for _ in range(pipes)]
    metrics_directory = directory / "metrics"
    metrics_directory.mkdir()
    log_file = directory / "exporter.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "apps.trace_exporter", *(str(reading) for reading, _ in ends)],
            env={
                **os.environ,
                "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
                "OTEL_BSP_SCHEDULE_DELAY": "50",
                "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory),
                **environment,
            },
            pass_fds=[reading for reading, _ in ends],
            start_new_session=own_session,
            stdout=log,
            stderr=log,
        )
    for reading, _ in ends:
        os.close(reading)
    running = ExporterProcess(process, [writing for _, writing in ends], metrics_directory, log_file)
    try:
        yield running
    finally:
        process.kill()
        process.wait()
        for writing in running.writing:
            os.close(writing)
