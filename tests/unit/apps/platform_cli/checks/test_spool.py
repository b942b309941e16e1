"""The spool in `check`: nothing is written, and each reason has its advice."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apps.platform_cli.checks.spool import full_disk, spool_check

MAX_BYTES = 1000


def disk(**changes: int) -> SimpleNamespace:
    return SimpleNamespace(**{"f_flag": 0, "f_bavail": 10, "f_frsize": 1000, "f_files": 10, "f_favail": 5, **changes})


def test_missing_directory_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: disk())
    check = spool_check(tmp_path / "a" / "spool", MAX_BYTES)
    assert check.ok
    assert check.detail.endswith("can be written, and is made at the first start")
    assert list(tmp_path.iterdir()) == []


def test_file_in_place_of_the_directory_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = spool_check(tmp_path / "file" / "spool", MAX_BYTES)
    assert (check.ok, check.required) == (False, True)
    assert check.detail.endswith(f"{tmp_path / 'file'} is not a directory; name another path")


@pytest.mark.parametrize(
    ("found", "required", "words"),
    [
        ({"f_flag": os.ST_RDONLY}, True, "is on a file system that is mounted read-only"),
        ({"f_bavail": 0}, True, "its disk is full; free space"),
        ({"f_favail": 0}, True, "its disk has no room for another file (inodes); remove files"),
        ({"f_frsize": 10}, False, "0 MiB free, less than PLATFORM_SPOOL_MAX_BYTES (0 MiB)"),
    ],
)
def test_disk_without_room_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Mapping[str, Any], required: bool, words: str
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: disk(**found))
    check = spool_check(tmp_path, MAX_BYTES)
    assert (check.ok, check.required) == (False, required)
    assert words in check.detail


def test_file_system_without_a_number_of_files_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """btrfs makes inodes as it needs them, and says 0 of 0."""
    monkeypatch.setattr(os, "statvfs", lambda _: disk(f_files=0, f_favail=0))
    assert spool_check(tmp_path, MAX_BYTES).ok


def test_directory_of_another_user_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert f"cannot be written by uid {os.geteuid()}" in spool_check(tmp_path, MAX_BYTES).detail


@pytest.mark.parametrize("free", [0, 1])
def test_full_disk_is_named_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(os, "statvfs", lambda _: disk(f_bavail=free))
    assert full_disk(tmp_path) == (None if free else "free space, or name a directory on another disk")
