"""The directory of workers' metrics exists while it is served, and those of dead parents are removed."""

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from structlog.testing import capture_logs

from apps.platform_cli.embedded.lock import DirectoryLock
from apps.platform_cli.serve.metrics import worker as worker_metrics
from apps.platform_cli.serve.metrics.worker import serve_metrics
from tests.support.servers.network.ports import free_port


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def _directory(parent: Path, name: str, age_seconds: float) -> Path:
    directory = parent / f"flowbiz-platform-metrics-{name}"
    directory.mkdir(mode=0o700)
    (directory / "counter_1.db").touch()
    moment = time.time() - age_seconds
    os.utime(directory, (moment, moment))
    return directory


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", free_port())) as server:
        server.setblocking(False)
        yield server


def test_it_is_gone_with_its_parent(listening: socket.socket) -> None:
    with serve_metrics(listening) as directory:
        assert httpx.get(f"http://127.0.0.1:{listening.getsockname()[1]}/metrics").status_code == 200
        assert directory.path.is_dir()
    assert not directory.path.exists()


def test_removed_directory_is_reported_and_made_again(temporary: Path, listening: socket.socket) -> None:
    """As by a cleaner of temporary files. Without it no worker could start, and the gateway would end."""
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
    with serve_metrics(listening, cache_seconds=0) as directory, capture_logs() as lines:
        directory.ensure()
        assert lines == []
        shutil.rmtree(directory.path)
        refused = httpx.get(url)
        assert (refused.status_code, str(directory.path) in refused.text) == (503, True)
        directory.ensure()
        assert [line["event"] for line in lines] == ["metrics_directory_removed"]
        assert directory.path.stat().st_mode & 0o777 == 0o700
        assert httpx.get(url).status_code == 200
        os.utime(directory.path, (0, 0))
        worker_metrics._sweep()
        assert directory.path.is_dir(), "it is locked again"
    assert not directory.path.exists()


@pytest.mark.parametrize("kind", ["link", "directory of all", "directory of ours", "file"])
def test_replaced_directory_is_left_for_another(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory, listening: socket.socket, kind: str
) -> None:
    """Another user makes something of the same name after a cleaner removed the directory."""
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"
    victim = tmp_path_factory.mktemp("victim")
    (victim / "gauge_livesum_7.db").write_bytes(b"precious")
    with serve_metrics(listening, cache_seconds=0) as directory, capture_logs() as lines:
        first = directory.path
        shutil.rmtree(first)
        if kind == "link":
            first.symlink_to(victim)
        elif kind == "file":
            first.touch()
        else:
            (temporary / "takes the number of the inode").mkdir()
            first.mkdir(mode=0o777 if kind == "directory of all" else 0o700)
            (first / "gauge_livesum_7.db").write_bytes(b"precious")
        directory.forget(7)
        assert httpx.get(url).status_code == 503
        directory.ensure()
        assert directory.path != first
        assert [line["event"] for line in lines] == ["metrics_directory_removed"]
        assert httpx.get(url).status_code == 200
        directory.ensure()
        assert len(lines) == 1
    assert os.path.lexists(first)
    assert sorted(victim.iterdir()) == [victim / "gauge_livesum_7.db"]
    if first.is_dir():
        assert (first / "gauge_livesum_7.db").exists()
    assert not directory.path.exists()


def test_directory_is_locked_for_cleaners(listening: socket.socket) -> None:
    """systemd-tmpfiles takes this lock before it removes anything in a directory."""
    with serve_metrics(listening) as directory:
        descriptor = os.open(directory.path, os.O_RDONLY | os.O_DIRECTORY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


def test_sweep_removes_only_directories_of_dead_parents(temporary: Path, listening: socket.socket) -> None:
    dead, living = _directory(temporary, "dead", 3600), _directory(temporary, "living", 3600)
    young = _directory(temporary, "young", 1)
    with DirectoryLock(living / ".lock"):
        os.utime(living, (0, 0))
        with serve_metrics(listening):
            assert not dead.exists()
            assert living.exists()
            assert young.exists()


def test_sweep_changes_nothing_behind_a_link(
    temporary: Path, tmp_path_factory: pytest.TempPathFactory, listening: socket.socket
) -> None:
    """A stranger's directory with a link to a file of ours, and a link to a directory of ours."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    precious = elsewhere / "precious"
    precious.write_text("all of it")
    trap = _directory(temporary, "trap", 3600)
    (trap / ".lock").symlink_to(precious)
    open_to_all = _directory(temporary, "open", 3600)
    open_to_all.chmod(0o755)
    linked = elsewhere / "linked"
    linked.mkdir(mode=0o700)
    (linked / "kept").touch()
    (temporary / "flowbiz-platform-metrics-link").symlink_to(linked)
    for each in (trap, linked):
        os.utime(each, (0, 0))
    with serve_metrics(listening):
        pass
    assert precious.read_text() == "all of it"
    assert open_to_all.exists()
    assert (linked / "kept").exists()
    assert not (linked / ".lock").exists()


def test_sweep_leaves_directories_of_others(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = _directory(temporary, "theirs", 3600)
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    worker_metrics._sweep()
    assert sorted(path.name for path in theirs.iterdir()) == ["counter_1.db"]
