"""What happens within one iteration of an event loop, which no test can see by a clock."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Iterations:
    """Counts the iterations of the running event loop."""

    def __init__(self) -> None:
        self.now = 0
        self._stopped = False
        self._count()

    def stop(self) -> None:
        """Count no more."""
        self._stopped = True

    def _count(self) -> None:
        self.now += 1
        if not self._stopped:
            asyncio.get_running_loop().call_soon(self._count)


@contextmanager
def counted_iterations() -> Iterator[Iterations]:
    """Count the iterations of the running event loop until the end of the block."""
    iterations = Iterations()
    try:
        yield iterations
    finally:
        iterations.stop()
