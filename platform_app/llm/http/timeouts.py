"""The timeouts of one call to a provider: for each wait, and for the whole call."""

import asyncio

from platform_app.errors import ProviderTimeout
from platform_app.llm.errors import cut_off, timed_out


class CallTimeouts:
    """The deadlines of one call. The time starts when the object is created, in a running event loop."""

    __slots__ = ("_deadline", "_idle_timeout_seconds", "_now", "started")

    def __init__(self, idle_timeout_seconds: float, seconds: float) -> None:
        """`seconds` is for the whole call, `idle_timeout_seconds` for each wait in it."""
        self._now = asyncio.get_running_loop().time
        self.started = self._now()
        self._deadline = self.started + seconds
        self._idle_timeout_seconds = idle_timeout_seconds

    def next_deadline(self) -> float:
        """Return the loop's time until which a wait that begins now may last."""
        return min(self._deadline, self._now() + self._idle_timeout_seconds)

    def timeout_error(self, sending: bool = False) -> ProviderTimeout:
        """Return the error for a wait that timed out. `sending`: the provider has sent a part of the body before."""
        if self._now() >= self._deadline:
            what = "the response was not complete within the time of this call"
            return cut_off(what) if sending else timed_out(what)
        return timed_out(f"no data for {self._idle_timeout_seconds:g} s")
