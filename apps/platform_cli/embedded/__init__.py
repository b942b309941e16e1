"""PostgreSQL and Valkey as child processes, for `flowbiz-platform dev` and for tests: nothing to install."""

from apps.platform_cli.embedded.child import ChildFailedError, ChildProcess, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock, LockedError
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey

__all__ = [
    "ChildFailedError",
    "ChildProcess",
    "DirectoryLock",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "LockedError",
    "reap_leftover",
]
