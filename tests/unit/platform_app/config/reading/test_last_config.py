"""The configuration that workers used last is read and written only in a directory of this user."""

from pathlib import Path

import pytest

from platform_app.config.reading.last_config import LastConfig


def test_last_config_is_shared(tmp_path: Path) -> None:
    LastConfig(tmp_path).store(b"a: 1")
    assert LastConfig(tmp_path).read() == b"a: 1"


@pytest.mark.parametrize("kind", ["link", "open to all"])
def test_last_config_of_a_replaced_directory_is_ignored(tmp_path: Path, kind: str) -> None:
    """Another user may make a directory of this name after a cleaner of temporary files removed ours."""
    theirs, path = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir(mode=0o700)
    (theirs / "last-config").write_bytes(b"evil: 1")
    if kind == "link":
        path.symlink_to(theirs)
    else:
        path = theirs
        path.chmod(0o777)
    last = LastConfig(path)
    assert last.read() is None
    last.store(b"a: 1")
    assert (theirs / "last-config").read_bytes() == b"evil: 1"
