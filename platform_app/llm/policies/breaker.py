"""The circuit breaker: stop sending requests to a route that keeps failing, and test it again after a while.

`Breaker` is the policy around one route. `BreakerState` is what all calls along the route share: the phase and the
counts. `HealthWindow` holds these counts.

    CLOSED --(too many failures)--> OPEN --(open_seconds)--> HALF_OPEN --(all probes succeed)--> CLOSED
                                      ^--(a probe fails)---------'
"""

import asyncio
import time
from collections.abc import Callable
from enum import IntEnum

from platform_app.config import BreakerConfig
from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.requests import ModelCall
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.metrics.zeros import start_refusals_at_zero

_log = get_logger("policies")
PROBE_RETRY_AFTER_SECONDS = 1.0
"""The Retry-After while probes are in progress. Most probes end within this time."""
SLICES = 10
_TIMER_SLACK_SECONDS = 0.01
"""Event loops run timers up to a few milliseconds early."""


class Breaker:
    """Ask the route's shared state before each call, and report how each call ended, streams included."""

    def __init__(self, upstream: Upstream, state: "BreakerState") -> None:
        self._upstream = upstream
        self._state = state

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send.

        Raises:
            BreakerOpen: nothing was sent.
        """
        permit = self._state.admit()
        sent = call.attempt_log.attempts
        try:
            response = await self._upstream.send(call)
        except BaseException as error:
            permit.settle(_health(error, call) if call.attempt_log.attempts > sent else Health.UNKNOWN)
            raise
        if isinstance(response, ChunkStream):
            permit.first_chunk()
            response.on_end(StreamObserver.BREAKER, permit.stream_ended)
        else:
            permit.settle(Health.WORKS)
        return response


def _health(error: BaseException, call: ModelCall) -> Health:
    """Return what a failed call shows about the route. A cancellation by the client shows nothing. A cancellation by
    the call's deadline shows that the route is too slow."""
    if isinstance(error, asyncio.CancelledError):
        late = asyncio.get_running_loop().time() >= call.deadline - _TIMER_SLACK_SECONDS
        return Health.FAILS if late else Health.UNKNOWN
    return failure_policy_of(error).health


class Phase(IntEnum):
    """The values are those of the metric platform_provider_breaker_state."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Permit:
    """The admission of one call. The holder settles it once, however the call ends."""

    __slots__ = ("_state", "epoch", "probe")

    def __init__(self, state: "BreakerState", epoch: int, probe: bool) -> None:
        self._state = state
        self.epoch = epoch
        self.probe = probe

    def settle(self, health: Health) -> None:
        """Report what the call showed about the route. The permit of a probe is free again."""
        self._state.settle(self, health)

    def first_chunk(self) -> None:
        """Report that a stream began. This settles a probe, since the rest of the stream may take minutes. The permit
        becomes an ordinary one of the next phase, so that a stream that fails later still counts."""
        if self.probe:
            self._state.settle(self, Health.WORKS)
            self.probe, self.epoch = False, self._state.epoch

    def stream_ended(self, error: BaseException | None) -> None:
        """Settle the permit of a stream. See EndCallback for `error`."""
        self.settle(Health.WORKS if error is None else failure_policy_of(error).health)


class BreakerState:
    """The state machine of one route.

    CLOSED: every call is admitted and counted. OPEN: every call is refused without I/O. HALF_OPEN: a few calls, the
    probes, are admitted, and their results decide which phase follows.

    It opens on a share of failures with a minimum number of calls, and not on failures in a row. Under load a route
    that fails four of five calls never fails many in a row, and a route that fails five of ten thousand is not down.
    The minimum keeps single failures at night from opening the breaker. There is no timer: the time is looked at when a
    call arrives.
    """

    def __init__(
        self, provider: str, upstream_model: str, config: BreakerConfig, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.phase = Phase.CLOSED
        self.epoch = 0
        """Incremented with each change of phase. Results of calls from an earlier epoch are ignored."""
        self._name = (provider, upstream_model)
        self._clock = clock
        self._window = HealthWindow(config.window_seconds)
        self._until = 0.0
        self._retired = False
        self._probing = 0
        self._good_probes = 0
        self._gauge = metrics.PROVIDER_BREAKER_STATE.labels(provider, upstream_model)
        self._gauge.set(Phase.CLOSED)
        start_refusals_at_zero(provider, "breaker_open")

    def admit(self) -> Permit:
        """Admit a call.

        Raises:
            BreakerOpen: the call is refused; retry_after says when the next one may be admitted.
        """
        if self.phase is Phase.CLOSED:
            return Permit(self, self.epoch, probe=False)
        if self.phase is Phase.OPEN:
            left = self._until - self._clock()
            if left > 0:
                raise self._refusal(left)
            self._enter(Phase.HALF_OPEN)
        if self._probing + self._good_probes >= self.config.probes:
            raise self._refusal(PROBE_RETRY_AFTER_SECONDS)
        self._probing += 1
        return Permit(self, self.epoch, probe=True)

    def settle(self, permit: Permit, health: Health) -> None:
        """See Permit.settle."""
        if permit.epoch != self.epoch or self._retired:
            return
        if self.phase is Phase.CLOSED:
            self._count(health)
        elif self.phase is Phase.HALF_OPEN:
            self._probing -= permit.probe
            if health is Health.FAILS:
                self._open(reason="a probe failed")
            elif health is Health.WORKS and permit.probe:
                self._good_probes += 1
                if self._good_probes >= self.config.probes:
                    self._window.clear()
                    self._enter(Phase.CLOSED)

    def retire(self) -> None:
        """Close the breaker of a route that left the config file. Calls that still run do not change it."""
        self.phase = Phase.CLOSED
        self._retired = True
        self._gauge.set(Phase.CLOSED)

    def _count(self, health: Health) -> None:
        if health is Health.UNKNOWN:
            return
        now = self._clock()
        self._window.add(health is Health.FAILS, now)
        if health is Health.FAILS:
            calls, failures = self._window.counts(now)
            if calls >= self.config.minimum_calls and failures >= calls * self.config.failure_ratio:
                self._open(reason=f"{failures} of {calls} calls failed")

    def _open(self, reason: str) -> None:
        self._until = self._clock() + self.config.open_seconds
        self._enter(Phase.OPEN, reason)

    def _enter(self, phase: Phase, reason: str | None = None) -> None:
        self.phase = phase
        self.epoch += 1
        self._probing = self._good_probes = 0
        provider, model = self._name
        to = phase.name.lower()
        self._gauge.set(phase)
        metrics.PROVIDER_BREAKER_TRANSITIONS.labels(provider, model, to).inc()
        _log.warning(f"breaker_{to}", provider=provider, model=model, reason=reason)

    def _refusal(self, retry_after: float) -> BreakerOpen:
        provider, model = self._name
        metrics.PROVIDER_REFUSED.labels(provider, "breaker_open").inc()
        return BreakerOpen(
            "The provider is unavailable right now. Try again shortly.",
            details=[f"{provider}/{model[:100]} failed too often and gets no requests for now"],
            retry_after=retry_after,
        )


class HealthWindow:
    """The calls and failures of a sliding window, in ten slices. The oldest slice is dropped as a whole, so a call
    counts for 90 to 100 % of the window. The memory does not grow with the traffic."""

    def __init__(self, window_seconds: float) -> None:
        self._slice_seconds = window_seconds / SLICES
        self._calls = [0] * SLICES
        self._failures = [0] * SLICES
        self._latest = 0
        """The number of the slice that was counted into last, from the clock's zero."""

    def add(self, failed: bool, now: float) -> None:
        """Count one call."""
        self._drop_old_slices(now)
        self._calls[self._latest % SLICES] += 1
        self._failures[self._latest % SLICES] += failed

    def counts(self, now: float) -> tuple[int, int]:
        """Return the number of calls and the number of those that failed."""
        self._drop_old_slices(now)
        return sum(self._calls), sum(self._failures)

    def clear(self) -> None:
        """Reset all counts to zero."""
        self._calls = [0] * SLICES
        self._failures = [0] * SLICES

    def _drop_old_slices(self, now: float) -> None:
        current = int(now / self._slice_seconds)
        passed = current - self._latest
        if passed > 0:
            for number in range(current - min(passed, SLICES) + 1, current + 1):
                self._calls[number % SLICES] = self._failures[number % SLICES] = 0
            self._latest = current
