"""Count failed authentications by client address, with the rate limiter.

Until the time that the limiter returned, invalid keys from an address over its limit get 429. Valid keys are still
accepted: clients that share an address with an attacker continue to work. See auth/throttled_lookups.py.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from platform_app.errors import LimiterUnavailable, RateLimited
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

    def refusal(self, address: str) -> RateLimited | None:
        """See FailureThrottle.refusal."""
        network = network_of(address)
        until = self._refused_until.get(network)
        if until is None:
            return None
        wait = until - self._clock()
        if wait <= 0:
            del self._refused_until[network]
            return None
        return RateLimited(
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
