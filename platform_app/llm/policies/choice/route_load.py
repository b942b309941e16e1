"""Measure a route's load in this process: its calls in flight, and its time to the first content."""

import math
import time
from collections.abc import Callable

from platform_app.llm.chunk_stream import ChunkStream, StreamObserver
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.policies.failure_table import Health, failure_policy_of
from platform_app.llm.requests import ModelCall

NEWEST_SHARE = 0.2
"""The least share of the newest observation in an estimate."""
FORGET_SECONDS = 60.0
"""After this time without an observation, the newest one has a share of 63 %."""
FAILURE_FACTOR = 4.0
"""A failed call counts as one that took this many times the estimate: two in a row make a route 2.5 times as slow."""
FIRST_FAILURE_SECONDS = 1.0
MAX_SECONDS = 600.0


class Estimate:
    """An exponentially weighted mean of durations."""

    __slots__ = ("_at", "seconds")

    def __init__(self) -> None:
        self.seconds: float | None = None
        """None: not observed yet."""
        self._at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """Take an observation into account."""
        before = self.seconds
        if before is None:
            self.seconds = min(seconds, MAX_SECONDS)
        else:
            share = max(NEWEST_SHARE, 1 - math.exp((self._at - now) / FORGET_SECONDS))
            self.seconds = before + share * (min(seconds, MAX_SECONDS) - before)
        self._at = now


class RouteLoad:
    """The load of one route, which all models that observe the route share."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.in_flight = 0
        self._clock = clock
        self._stream, self._whole = Estimate(), Estimate()

    def first_content_seconds(self, stream: bool) -> float | None:
        """Return the usual time until a stream's first content, or until a whole response; None if it is not known."""
        return (self._stream if stream else self._whole).seconds

    def begin(self) -> float:
        """Count a call, and return the time."""
        self.in_flight += 1
        return self._clock()

    def responded(self, stream: bool, began: float) -> None:
        """Note that the first content of a stream, or a whole response, arrived."""
        now = self._clock()
        (self._stream if stream else self._whole).observe(now - began, now)

    def failed(self, stream: bool, began: float) -> None:
        """Note a failure that the route caused."""
        now, estimate = self._clock(), self._stream if stream else self._whole
        usual = FIRST_FAILURE_SECONDS if estimate.seconds is None else FAILURE_FACTOR * estimate.seconds
        estimate.observe(max(usual, now - began), now)

    def end(self) -> None:
        """Count a call's end."""
        self.in_flight -= 1


class Observed:
    """Observe the calls along one route. Only routes of models whose strategy needs it are wrapped."""

    def __init__(self, upstream: Upstream, load: RouteLoad) -> None:
        self._upstream = upstream
        self._load = load

    async def send(self, call: ModelCall) -> UpstreamResponse:
        """See Upstream.send."""
        load = self._load
        began = load.begin()
        try:
            response = await self._upstream.send(call)
        except BaseException as error:
            load.end()
            if failure_policy_of(error).health is Health.FAILS:
                load.failed(call.stream, began)
            raise
        load.responded(call.stream, began)
        if isinstance(response, ChunkStream):
            response.on_end(StreamObserver.LOAD, self._ended)
        else:
            load.end()
        return response

    def _ended(self, _: BaseException | None) -> None:
        self._load.end()
