"""Reap processes that the parent did not start: the first process of a container inherits all orphans."""

import os
from collections.abc import Collection

_MAX_AT_ONCE = 100


def reap_orphans(children: Collection[int]) -> int:
    """Remove ended processes from the process table, except `children`, whose exit codes are read elsewhere.

    Return how many were removed.
    """
    reaped = 0
    while reaped < _MAX_AT_ONCE:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # there is no child
            break
        if ended is None or ended.si_pid in children:
            break  # the others are found once this child is replaced
        os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
        reaped += 1
    return reaped
