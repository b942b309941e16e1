"""Files in places that other users may write to: links, pipes and files of others are refused and left alone."""

import os
from pathlib import Path

import pytest

from apps.platform_cli.embedded.child import ChildProcess, reap_leftover
from apps.platform_cli.embedded.lock import DirectoryLock
from apps.platform_cli.embedded.private_file import (
    NotPrivateError,
    check_data_directory,
    open_private,
    replace_private,
)


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("all of it")
    return path


def test_lock_refuses_a_link(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "dev.lock").symlink_to(precious)
    with pytest.raises(NotPrivateError, match="symbolic link"):
        DirectoryLock(tmp_path / "dev.lock").acquire()
    assert precious.read_text() == "all of it"


def test_lock_refuses_a_hard_link(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "dev.lock").hardlink_to(precious)
    with pytest.raises(NotPrivateError):
        DirectoryLock(tmp_path / "dev.lock").acquire()
    assert precious.read_text() == "all of it"


def test_lock_refuses_a_file_with_other_content(tmp_path: Path, precious: Path) -> None:
    with pytest.raises(NotPrivateError, match="something other than a process id"):
        DirectoryLock(precious).acquire()
    assert precious.read_text() == "all of it"


def test_lock_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "dev.lock")
    with pytest.raises(NotPrivateError):
        DirectoryLock(tmp_path / "dev.lock").acquire()


def test_file_of_another_user_is_refused(tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: ours + 1)
    with pytest.raises(NotPrivateError):
        open_private(precious, os.O_RDWR)
    with pytest.raises(NotPrivateError, match="belongs to user id"):
        check_data_directory(tmp_path)


def test_data_directory_open_to_all_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(NotPrivateError, match="chmod o-w"):
        check_data_directory(tmp_path)
    tmp_path.chmod(0o755)
    check_data_directory(tmp_path)


def test_pid_and_log_files_follow_no_link(tmp_path: Path, precious: Path) -> None:
    for name in ("x.pid", "x.log"):
        (tmp_path / name).symlink_to(precious)
    with pytest.raises(NotPrivateError):
        ChildProcess("x", ["/bin/true"], log_file=tmp_path / "x.log")
    child = ChildProcess("x", ["/bin/true"], pid_file=tmp_path / "x.pid")
    child.kill()
    (tmp_path / "y.pid").symlink_to(precious)
    with pytest.raises(NotPrivateError):
        reap_leftover(tmp_path / "y.pid")
    assert precious.read_text() == "all of it"


def test_replaced_file_is_private(tmp_path: Path, precious: Path) -> None:
    (tmp_path / "dev.env").symlink_to(precious)
    (tmp_path / ".dev.env.partial").symlink_to(precious)
    replace_private(tmp_path / "dev.env", "new")
    assert precious.read_text() == "all of it"
    status = (tmp_path / "dev.env").lstat()
    assert (status.st_mode & 0o777, (tmp_path / "dev.env").read_text()) == (0o600, "new")
