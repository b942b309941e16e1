"""Our metric values against prometheus_client's own: the same files, read by its own collector."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, threading
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
if sys.argv[1] != "theirs":
    from platform_app.observability.metrics.changes import CHANGES
    from platform_app.observability.metrics.kinds import Counter, Gauge, Histogram
if sys.argv[1] == "ours, written later":
    CHANGES.write_later()
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
        histogram.observe(0.5)

threads = [threading.Thread(target=add) for _ in range(4)]
for thread in threads: thread.start()
if sys.argv[1] == "ours, written later":
    while any(thread.is_alive() for thread in threads):
        CHANGES.write()
for thread in threads: thread.join()
if sys.argv[1] == "ours, written later":
    CHANGES.write()
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
    return [line for line in done.stdout.splitlines() if "platform_" not in line and "gen_ai_" not in line]


@pytest.mark.parametrize("how", ["ours", "ours, written later"])
def test_values_are_those_of_prometheus_client(tmp_path: Path, how: str) -> None:
    ours, theirs = counted(how, tmp_path / "ours"), counted("theirs", tmp_path / "theirs")
    assert len(theirs) > 9000
    assert 'c_total{name="early"} 80003.5' in ours, "no increment of another thread is lost"
    assert "h_count 80004.0" in ours
    assert ours == theirs


WRITTEN = """
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from platform_app.observability import metrics
from platform_app.observability.metrics.changes import CHANGES

registry = CollectorRegistry()
MultiProcessCollector(registry)

def scraped() -> set[str]:
    return {line for line in generate_latest(registry).decode().splitlines() if "bulk" in line or "auth_lookup" in line}

def change() -> None:
    metrics.LEDGER_SHIPPED.labels("bulk").inc(2)
    metrics.AUTH_LOOKUP_SECONDS.observe(0.25)

change()
assert 'platform_ledger_shipped_total{table="bulk"} 2.0' in scraped(), "written at once by default"
CHANGES.write_later()
before = scraped()
change()
assert scraped() == before, "the change waits"
CHANGES.write()
assert {'platform_ledger_shipped_total{table="bulk"} 4.0', "platform_auth_lookup_duration_seconds_count 2.0",
        "platform_auth_lookup_duration_seconds_sum 0.5"} <= scraped()
change()
CHANGES.write_at_once()
assert 'platform_ledger_shipped_total{table="bulk"} 6.0' in scraped(), "what waits is written on the way back"
change()
assert 'platform_ledger_shipped_total{table="bulk"} 8.0' in scraped()
"""


def test_changes_wait_until_they_are_written(tmp_path: Path) -> None:
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", WRITTEN], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr


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
