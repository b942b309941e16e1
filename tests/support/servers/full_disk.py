"""A disk that is full for some processes."""

import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def full_disk(pids: Sequence[int]) -> Iterator[None]:
    """Let the kernel refuse every write of these processes to a file, which needs no privilege and no separate disk.

    Pipes, sockets and mapped files still work, as with a full disk.
    """
    try:
        for pid in pids:
            _limit_file_size(pid, 0)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                _limit_file_size(pid, resource.RLIM_INFINITY)


def _limit_file_size(pid: int, size: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
