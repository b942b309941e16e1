"""How long one call to a provider waits, for its next piece and for all of it.

Ours and not aiohttp's `sock_read`: that timer can be armed on a connection whose answer is already complete (large
requests, in 3.14.5), fires while the connection waits in the pool, and fails the next call that gets it.
"""

import asyncio

from platform_app.errors import ProviderTimeout
from platform_app.llm.provider_errors import timed_out


class Patience:
    """Starts when it is made, in a running loop."""

    __slots__ = ("_deadline", "_now", "_silence_seconds")

    def __init__(self, silence_seconds: float, seconds: float) -> None:
        """`seconds` for the whole call, `silence_seconds` for any one wait in it."""
        self._now = asyncio.get_running_loop().time
        self._deadline = self._now() + seconds
        self._silence_seconds = silence_seconds

    def wait(self) -> asyncio.Timeout:
        """A context for one wait. Raises TimeoutError from it where that takes too long."""
        return asyncio.timeout_at(min(self._deadline, self._now() + self._silence_seconds))

    def exhausted(self) -> ProviderTimeout:
        """What a TimeoutError of `wait` means."""
        if self._now() >= self._deadline:
            return timed_out("no complete answer within the time that this call had")
        return timed_out(f"silence for {self._silence_seconds:g} s")
