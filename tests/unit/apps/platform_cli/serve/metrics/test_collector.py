"""What the parent shows of the workers' files: exemplars, its own metrics once, gauges of living workers."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from apps.platform_cli.serve.dead_workers import forget_worker
from apps.platform_cli.serve.metrics.collector import WorkersCollector
from apps.platform_cli.serve.metrics.server import MetricsCache
from platform_app.observability.exemplars import FILE_NAME, Exemplar, write_exemplars
from platform_app.observability.metrics import OF_THE_PARENT

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
PLAIN = "text/plain"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
COUNT = """
import os, sys
from platform_app.observability import metrics
metrics.OVERHEAD_SECONDS.labels("/v1/chat").observe(0.003)
metrics.HTTP_IN_FLIGHT.inc(2)
metrics.SCHEMA_AT_HEAD.set(int(sys.argv[1]))
metrics.CERTIFICATE_EXPIRY_SECONDS.labels("/ca.pem").set(4e9)
print(os.getpid())
"""


def worker(directory: Path, at_head: int = 1) -> int:
    """Count in a separate process; return its id."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(at_head)],
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return int(done.stdout)


def shown(directory: Path, accept: str = OPENMETRICS) -> str:
    registry = CollectorRegistry()
    registry.register(WorkersCollector(lambda: directory))
    for metric in OF_THE_PARENT:
        registry.register(metric)
    return MetricsCache(registry, 0).text(accept)[0].decode()


def samples(directory: Path) -> list[Sample]:
    families = text_string_to_metric_families(shown(directory))  # type: ignore[no-untyped-call]  # no types there
    return [sample for family in families for sample in family.samples]


def value(found: list[Sample], name: str) -> list[float]:
    return [sample.value for sample in found if sample.name == name]


def test_exemplars_are_on_their_buckets(tmp_path: Path) -> None:
    worker(tmp_path)
    now = time.time()
    write_exemplars(
        tmp_path,
        [
            Exemplar("platform_overhead_seconds", {"route": "/v1/chat"}, "0.005", 0.003, TRACE_ID, now),
            Exemplar("platform_overhead_seconds", {"route": "/other"}, "0.005", 0.003, TRACE_ID, now),
        ],
    )
    found = [sample for sample in samples(tmp_path) if sample.exemplar is not None]
    assert [(sample.name, dict(sample.labels)) for sample in found] == [
        ("platform_overhead_seconds_bucket", {"route": "/v1/chat", "le": "0.005"})
    ]
    assert found[0].exemplar is not None
    assert (found[0].exemplar.labels, found[0].exemplar.value) == ({"trace_id": TRACE_ID}, 0.003)
    assert TRACE_ID not in shown(tmp_path, PLAIN), "the plain form has no exemplars"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"metric": 1}]'])
def test_broken_file_of_exemplars_changes_nothing(tmp_path: Path, content: bytes) -> None:
    worker(tmp_path)
    plain = shown(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(content)
    assert shown(tmp_path) == plain


def test_each_metric_is_shown_once(tmp_path: Path) -> None:
    worker(tmp_path)
    worker(tmp_path)
    lines = [line for line in shown(tmp_path).splitlines() if line.startswith("# TYPE ")]
    assert len(lines) == len(set(lines)) > 30
    assert len(value(samples(tmp_path), "platform_workers_ready")) == 1


def test_counts_of_dead_workers_stay_and_their_gauges_do_not(tmp_path: Path) -> None:
    dead, _ = worker(tmp_path, at_head=0), worker(tmp_path)
    before = samples(tmp_path)
    assert value(before, "platform_http_requests_in_flight") == [4]
    assert value(before, "platform_schema_at_head") == [0], "the worst worker counts"
    forget_worker(dead, tmp_path)
    after = samples(tmp_path)
    assert value(after, "platform_overhead_seconds_count") == value(before, "platform_overhead_seconds_count") == [2]
    assert value(after, "platform_http_requests_in_flight") == [2]
    assert value(after, "platform_schema_at_head") == [1]


def test_file_without_content_is_not_read(tmp_path: Path) -> None:
    """A process that starts has made its file and not yet written its head."""
    worker(tmp_path)
    plain = shown(tmp_path)
    (tmp_path / "gauge_all_1.db").touch()
    assert shown(tmp_path) == plain


def test_file_removed_after_listing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the parent and the exporter remove files: `forget_worker`, and the exporter's gauges at its start."""
    gone, _ = worker(tmp_path), worker(tmp_path)
    read = MmapedDict.read_all_values_from_file
    monkeypatch.setattr(MmapedDict, "read_all_values_from_file", lambda path: remove_and_read(path))

    def remove_and_read(path: str) -> object:
        for file in tmp_path.glob(f"*_{gone}.db"):
            file.unlink()
        return read(path)  # type: ignore[no-untyped-call]  # no types there

    assert value(samples(tmp_path), "platform_overhead_seconds_count") == [1]
