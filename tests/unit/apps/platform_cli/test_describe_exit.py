"""How a child process ended, for people."""

import pytest

from apps.platform_cli.embedded.child import describe_exit


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (None, "still running"),
        (3, "exit code 3"),
        (-9, "killed by SIGKILL"),
        (-7, "killed by SIGBUS (a mapped file has no room: free space on the disks of PLATFORM_SPOOL_DIR and TMPDIR)"),
        (-200, "killed by signal 200"),
    ],
)
def test_exit_is_described(code: int | None, text: str) -> None:
    assert describe_exit(code) == text
