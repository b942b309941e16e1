"""A streaming replica of an embedded PostgreSQL."""

import subprocess
from pathlib import Path

from apps.platform_cli.embedded.postgres import SUPERUSER, EmbeddedPostgres, find_binaries


def standby_of(primary: EmbeddedPostgres, directory: Path) -> EmbeddedPostgres:
    """Copy the running primary into a new directory, and start the copy, which follows the primary."""
    copy = directory / "copy"
    subprocess.run(
        [
            str(find_binaries() / "pg_basebackup"), "--host", str(primary.socket_directory), "--port", "5432",
            "--username", SUPERUSER, "--pgdata", str(copy), "--write-recovery-conf", "--checkpoint", "fast",
            "--no-sync",
        ],
        check=True, capture_output=True, env={}, timeout=300,
    )  # fmt: skip
    (directory / "standby").mkdir()
    standby = EmbeddedPostgres(directory / "standby" / "data", settings={"fsync": "off"})
    copy.rename(standby.directory)
    standby.start()
    return standby
