"""PostgreSQL and Valkey as child processes, for `flowbiz-platform dev` and for tests; their programs come from wheels.

postgres.py, valkey.py   one server each, on server.py: start, wait, freeze, stop
prometheus.py            Prometheus, where it is installed: `dev --observe` and tests of dashboards and alerts
child.py                 a child process that never outlives its parent; processes.py reads and ends processes
account.py               PostgreSQL refuses to run as root: the user that it runs as
sockets.py, private_file.py, lock.py   paths of sockets, files that other users cannot replace, one dev per directory
errors.py                the errors, as a tree
"""

from apps.platform_cli.embedded.child import ChildFailedError, ChildProcess, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.lock import DirectoryLock, LockedError
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus
from apps.platform_cli.embedded.valkey import EmbeddedValkey

__all__ = [
    "ChildFailedError",
    "ChildProcess",
    "DirectoryLock",
    "EmbeddedError",
    "EmbeddedPostgres",
    "EmbeddedPrometheus",
    "EmbeddedValkey",
    "LockedError",
    "reap_leftover",
]
