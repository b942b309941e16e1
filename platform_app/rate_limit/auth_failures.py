"""Count failed authentications by client address, with the rate limiter.

An address over its limit is refused without any I/O until the time that the limiter returned. A key that is cached as
valid is still accepted: clients that share an address with an attacker continue to work while their key is cached.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from platform_app.errors import LimiterUnavailable, RateLimited
from platform_app.observability import metrics
from platform_app.observability.networks import network_of
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule

MAX_ADDRESSES = 10_000
WINDOW_SECONDS = 60


class AddressThrottle:
    """See FailureThrottle of auth. Remembers at most 10,000 refused addresses and evicts the oldest."""

    def __init__(
        self, limiter: RateLimiter, failures_per_minute: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limiter = limiter
        self._rule = Rule("auth-failures", "global", "requests", failures_per_minute, window_seconds=WINDOW_SECONDS)
        self._clock = clock
        self._refused_until: OrderedDict[str, float] = OrderedDict()

    def check(self, address: str) -> None:
        """See FailureThrottle.check."""
        network = network_of(address)
        until = self._refused_until.get(network)
        if until is None:
            return
        wait = until - self._clock()
        if wait <= 0:
            del self._refused_until[network]
            return
        metrics.AUTH_THROTTLED.inc()
        raise RateLimited(
            f"Too many requests with invalid API keys came from your address. Try again in {math.ceil(wait)} s.",
            retry_after=wait,
        )

    async def failed(self, address: str) -> None:
        """See FailureThrottle.failed."""
        network = network_of(address)
        charge = Charge(self._rule, f"fbp:rl:{{{network}}}:{self._rule.name}")
        try:
            decision = await self._limiter.acquire([charge])
        except LimiterUnavailable:
            return  # the request is refused anyway; only this failure is not counted
        state = decision.denied_by or decision.states[0]
        if state.remaining == 0:  # denied, or this was the last failure allowed
            self._refused_until[network] = self._clock() + state.reset_seconds
            self._refused_until.move_to_end(network)
            if len(self._refused_until) > MAX_ADDRESSES:
                self._refused_until.popitem(last=False)
