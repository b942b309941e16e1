"""How long one call to a provider waits, for its next piece and for all of it."""

import asyncio

from platform_app.errors import ProviderTimeout
from platform_app.llm.errors import cut_off, timed_out


class CallTimeouts:
    """Starts when it is made, in a running loop."""

    __slots__ = ("_deadline", "_idle_timeout_seconds", "_now", "started")

    def __init__(self, idle_timeout_seconds: float, seconds: float) -> None:
        """`seconds` for the whole call, `idle_timeout_seconds` for any one wait in it."""
        self._now = asyncio.get_running_loop().time
        self.started = self._now()
        self._deadline = self.started + seconds
        self._idle_timeout_seconds = idle_timeout_seconds

    def next_deadline(self) -> float:
        """The loop's time at which a wait that begins now ends."""
        return min(self._deadline, self._now() + self._idle_timeout_seconds)

    def timeout_error(self, sending: bool = False) -> ProviderTimeout:
        """What it means that a wait took too long, of a provider that was `sending` before it or not."""
        if self._now() >= self._deadline:
            what = "no complete answer within the time that this call had"
            return cut_off(what) if sending else timed_out(what)
        return timed_out(f"silence for {self._idle_timeout_seconds:g} s")
