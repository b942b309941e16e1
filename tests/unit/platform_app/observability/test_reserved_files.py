"""Files of metric values on a disk without room: no write to a page that the disk cannot hold."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.mmap_dict import MmapedDict

from platform_app.observability.metrics import reserved_files
from platform_app.observability.metrics.reserved_files import FIRST_BYTES, ReservedFile, WaitingValues

Fill = Callable[[int | None], None]


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Fill:
    """Return a function that lets the next reservations fail with an error number, or succeed again."""
    reserve = os.posix_fallocate
    monkeypatch.setattr(reserved_files, "RETRY_SECONDS", 0.0)

    def set_error(number: int | None) -> None:
        def reserve_or_fail(descriptor: int, start: int, length: int) -> None:
            if number is not None:
                raise OSError(number, os.strerror(number))
            reserve(descriptor, start, length)

        monkeypatch.setattr(os, "posix_fallocate", reserve_or_fail)

    return set_error


class Asked:
    """A value for which there is never room."""

    times = 0

    def give_place(self) -> bool:
        self.times += 1
        return False


@contextmanager
def opened(directory: Path) -> Iterator[Any]:
    file: Any = ReservedFile(str(directory / "counter_1.db"))
    yield file
    file.close()


def key(number: int) -> str:
    return f"{number:01000}"


def read(directory: Path) -> dict[str, float]:
    values = MmapedDict.read_all_values_from_file(directory / "counter_1.db")  # type: ignore[no-untyped-call]
    return {key: value for key, value, *_ in values}


def assert_reserved(directory: Path, size: int) -> None:
    status = (directory / "counter_1.db").stat()
    assert status.st_size >= size
    assert status.st_blocks * 512 >= status.st_size


def test_each_block_is_reserved_before_it_is_mapped(tmp_path: Path) -> None:
    with opened(tmp_path) as file:
        assert_reserved(tmp_path, FIRST_BYTES)
        for number in range(100):
            file.read_value(key(number))
            file.write_value(key(number), number, 0.0)
        assert_reserved(tmp_path, 100 * 1000)
        assert read(tmp_path) == {key(number): number for number in range(100)}


def test_disk_without_fallocate_gets_zeros(tmp_path: Path, fill: Fill) -> None:
    fill(errno.EOPNOTSUPP)
    with opened(tmp_path) as file:
        for number in range(100):
            file.read_value(key(number))
        assert_reserved(tmp_path, 100 * 1000)


@pytest.mark.parametrize("full", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_has_no_file_until_there_is_room(tmp_path: Path, fill: Fill, full: int) -> None:
    fill(full)
    with opened(tmp_path) as file:
        assert file.read_value("key") == (0.0, 0.0)
        assert file.place("key") is None
        assert list(tmp_path.iterdir()) == []
        fill(None)
        assert file.place("key") is not None
        assert read(tmp_path) == {"key": 0.0}


def test_file_that_cannot_grow_keeps_its_values(tmp_path: Path, fill: Fill) -> None:
    with opened(tmp_path) as file:
        file.read_value("early")
        fill(errno.ENOSPC)
        places = [file.place(key(number)) for number in range(100)]
        assert places.count(None) > 30
        file.write_value("early", 1.0, 0.0)
        assert read(tmp_path)["early"] == 1.0
        assert len(read(tmp_path)) == 1 + 100 - places.count(None)
        fill(None)
        assert None not in [file.place(key(number)) for number in range(100)]
        assert len(read(tmp_path)) == 101


def test_full_disk_is_asked_once_in_a_while() -> None:
    waiting, value = WaitingValues(), Asked()
    waiting.add(value)
    assert [waiting.place() for _ in range(5)] == [False] * 5
    assert value.times == 1


def test_other_errors_are_not_hidden(tmp_path: Path, fill: Fill) -> None:
    fill(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        opened(tmp_path).__enter__()


SCRIPT = """
import errno, os
reserve = os.posix_fallocate
def full(*_):
    raise OSError(errno.ENOSPC, "full")
os.posix_fallocate = full
from platform_app.observability.metrics import reserved_files
reserved_files.RETRY_SECONDS = 0.0
from platform_app.observability import metrics
from platform_app.observability.logging import configure_logging
configure_logging("info", "json")
metrics.BUILD_INFO.labels("1", "unknown").set(1)
for _ in range(3):
    metrics.LEDGER_SHIPPED.labels("bulk").inc(2)
    metrics.AUTH_LOOKUP_SECONDS.observe(0.25)
assert not [name for name in os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"]) if name.endswith(".db")]
os.posix_fallocate = reserve
metrics.LEDGER_SHIPPED.labels("bulk").inc(2)
metrics.AUTH_LOOKUP_SECONDS.observe(0.25)
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
registry = CollectorRegistry()
MultiProcessCollector(registry)
lines = generate_latest(registry).decode().splitlines()
assert 'platform_ledger_shipped_total{table="bulk"} 8.0' in lines
assert any(line.startswith("platform_build_info{") and line.endswith(" 1.0") for line in lines), "never changed again"

assert "platform_auth_lookup_duration_seconds_count 4.0" in lines
"""


def test_worker_counts_in_memory_while_the_disk_is_full(tmp_path: Path) -> None:
    """Its imports, which make the first values, and its log line included."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "metrics_disk_full" in line]
    assert len(lines) == 1
    assert str(tmp_path) in lines[0]
