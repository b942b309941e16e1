"""Our metric values against prometheus_client's own: the same files, read by its own collector."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, threading
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector
if sys.argv[1] == "ours":
    from platform_app.observability.mapped_values import mapped_value_class
    values.ValueClass = mapped_value_class()
counter = Counter("c", "c", ["name"])
gauge = Gauge("g", "g", multiprocess_mode="livesum")
histogram = Histogram("h", "h", buckets=(0.1, 1))
# More values than the first megabyte of the file holds: the mapping is replaced while values of before are in use.
early = counter.labels("early")
early.inc()
for number in range(9000):
    counter.labels(f"name-{number:0100}").inc(number)
early.inc(2.5)
gauge.set(4)
gauge.inc()
gauge.dec(0.5)
for value in (0.0625, 0.5, 0.5, 3):
    histogram.observe(value)

def add() -> None:
    for _ in range(20_000):
        early.inc()

threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
registry = CollectorRegistry()
MultiProcessCollector(registry)
lines = sorted(generate_latest(registry).decode().splitlines())
print("\\n".join(lines))
"""


def counted(how: str, directory: Path) -> list[str]:
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, how],
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    return done.stdout.splitlines()


def test_values_are_those_of_prometheus_client(tmp_path: Path) -> None:
    ours, theirs = counted("ours", tmp_path / "ours"), counted("theirs", tmp_path / "theirs")
    assert len(theirs) > 9000
    assert 'c_total{name="early"} 80003.5' in ours, "no increment of another thread is lost"
    assert ours == theirs


@pytest.mark.parametrize("name", ["_file", "_key"])
def test_prometheus_client_still_has_what_we_use(name: str, tmp_path: Path) -> None:
    """Private names of a pinned version: a new one that renames them fails here and not in a worker."""
    script = (
        "from prometheus_client import values, Counter\n"
        f"value = Counter('c', 'c')._value\nassert value._multiprocess and hasattr(value, {name!r})\n"
        "assert value._file._positions[value._key] > 0 and value._file._m is not None"
    )
    subprocess.run(
        [sys.executable, "-c", script], env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}, timeout=300, check=True
    )
