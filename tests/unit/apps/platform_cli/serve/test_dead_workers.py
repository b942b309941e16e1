"""A year of crashes: the files of dead workers are added up, and no counter falls."""

import errno
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from apps.platform_cli.serve import dead_workers
from apps.platform_cli.serve.dead_workers import forget_worker
from apps.platform_cli.serve.metrics.collector import WorkersCollector

CRASHES = 300


def write(directory: Path, kind: str, pid: int, **values: float) -> None:
    """Write a file as a worker does; each value is a series of one metric."""
    file = MmapedDict(str(directory / f"{kind}_{pid}.db"))  # type: ignore[no-untyped-call]  # no types there
    for label, value in values.items():
        name = "x_seconds_bucket" if kind == "histogram" else "x_total"
        labels = ["le"] if kind == "histogram" else ["by"]
        bound = label.removeprefix("le_") if kind == "histogram" else label
        key = mmap_key("x_seconds" if kind == "histogram" else "x", name, labels, [bound], "Help.")
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]  # no types there
    file.close()  # type: ignore[no-untyped-call]  # no types there


def shown(directory: Path) -> str:
    registry = CollectorRegistry()
    registry.register(WorkersCollector(lambda: directory))
    return generate_latest(registry).decode()


def test_files_of_dead_workers_are_added_up(tmp_path: Path) -> None:
    write(tmp_path, "counter", 1, a=1.0)
    for pid in range(2, 2 + CRASHES):
        write(tmp_path, "counter", pid, a=1.5, **{f"pid{pid % 7}": 1.0})
        write(tmp_path, "histogram", pid, le_1=2.0)
        (tmp_path / f"gauge_livesum_{pid}.db").touch()
        (tmp_path / f"exemplars.json.{pid}").touch()
        before = sorted(shown(tmp_path).splitlines())
        forget_worker(pid, tmp_path)
        assert sorted(shown(tmp_path).splitlines()) == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_1.db", "counter_dead.db", "histogram_dead.db"]
    assert f'x_total{{by="a"}} {1 + 1.5 * CRASHES}' in shown(tmp_path)
    assert f'x_seconds_bucket{{le="1.0"}} {2.0 * CRASHES}' in shown(tmp_path)


def test_reused_process_id_counts_once_more(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path, "counter", 7, a=3.0)
        forget_worker(7, tmp_path)
    assert 'x_total{by="a"} 6.0' in shown(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x40\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\x00" + bytes(60)])
def test_damaged_file_of_killed_worker_is_removed(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "counter", 1, a=3.0)
    forget_worker(1, tmp_path)
    (tmp_path / "counter_2.db").write_bytes(content)
    forget_worker(2, tmp_path)
    assert 'x_total{by="a"} 3.0' in shown(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["counter_dead.db"]


def test_full_disk_keeps_the_file_of_the_dead_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "counter", 1, a=3.0)

    def no_space(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", no_space)
        forget_worker(1, tmp_path)
    assert 'x_total{by="a"} 3.0' in shown(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["counter_1.db"]


def test_written_file_can_be_read_by_the_library(tmp_path: Path) -> None:
    values: dict[str, Any] = {"a": 1.0, "äöü": 2.0, "x" * 5000: 3.0}
    dead_workers._replace(tmp_path / "counter_dead.db", values)
    file = MmapedDict(str(tmp_path / "counter_dead.db"), read_mode=True)  # type: ignore[no-untyped-call]  # no types there
    assert {key.rstrip(): value for key, value, _ in file.read_all_values()} == values  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]  # no types there
