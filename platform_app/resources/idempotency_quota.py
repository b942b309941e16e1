"""How much one API key and one owner may have stored under Idempotency-Keys, counted with the limiter.

What is stored ends after the same time for all of it, so the bytes that are stored at any moment are those of a window
of that length: the limiter's sliding window counts them exactly over all processes, in a bounded counter, on a cluster
too. A window is a little longer than the time of storing, since a response is counted before it is stored.

Seven eighths of a quota are for responses. An eighth is for markers, which say only that the work was done: where
responses have no room any more, the promise not to do work twice is kept. Where markers have no room either, requests
with a new key are refused before their work begins.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from platform_app.errors import RateLimited
from platform_app.idempotency.store import Holder
from platform_app.rate_limit.limiter import Decision, RateLimiter
from platform_app.rate_limit.matching import Charge, LimitedRequest, counter_name
from platform_app.rate_limit.rule import Rule

RECORD_BYTES = 512
"""What a record takes beside its response: name, fingerprint and Redis's own bookkeeping, rounded up."""
MARGIN_SECONDS = 15
"""More than passes between counting a response and storing it."""
REFUSED_SECONDS = 60.0
"""How long a process refuses new keys at most before it asks the limiter again."""
MAX_REFUSED = 10_000
_MARKERS_SHARE = 8


@dataclass(frozen=True, slots=True)
class QuotaLimits:
    """Bytes that may be stored at a time."""

    key_bytes: int
    owner_bytes: int
    keep_seconds: int


class LimiterQuota:
    """See StorageQuota. While the limiter is degraded, each process allows its share."""

    def __init__(self, limiter: RateLimiter, limits: QuotaLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter = limiter
        self._clock = clock
        window = limits.keep_seconds + MARGIN_SECONDS
        sizes = (limits.key_bytes, limits.owner_bytes)
        self._markers = _rules("idempotency-markers", [size // _MARKERS_SHARE for size in sizes], window)
        self._responses = _rules("idempotency-bytes", [size - size // _MARKERS_SHARE for size in sizes], window)
        self._refused_until: OrderedDict[Holder, float] = OrderedDict()

    async def take_response(self, holder: Holder, size: int) -> bool:
        """See StorageQuota.take_response."""
        return (await self._take(self._responses, holder, size + RECORD_BYTES)).allowed

    async def take_marker(self, holder: Holder) -> None:
        """See StorageQuota.take_marker."""
        decision = await self._take(self._markers, holder, RECORD_BYTES)
        tightest = decision.denied_by or min(decision.states, key=lambda state: state.remaining)
        if tightest.remaining < RECORD_BYTES:
            self._refused_until[holder] = self._clock() + min(tightest.reset_seconds, REFUSED_SECONDS)
            self._refused_until.move_to_end(holder)
            if len(self._refused_until) > MAX_REFUSED:
                self._refused_until.popitem(last=False)

    def require_marker(self, holder: Holder) -> None:
        """See StorageQuota.require_marker. What is under way in the moment in which the room ends is still marked: at
        most one request each of those that a process runs at once."""
        until = self._refused_until.get(holder)
        if until is None:
            return
        wait = until - self._clock()
        if wait <= 0:
            del self._refused_until[holder]
            return
        raise RateLimited(
            "The room for responses to requests with an Idempotency-Key is used up for this API key or its owner. "
            f"Send the request without the header, or try again in {math.ceil(wait)} s.",
            retry_after=wait,
            param="Idempotency-Key",
        )

    async def _take(self, rules: Sequence[Rule], holder: Holder, size: int) -> Decision:
        usage = LimitedRequest(holder.key_id, holder.owner, route="")
        return await self._limiter.acquire([Charge(rule, counter_name(rule, usage), size) for rule in rules])


def _rules(name: str, sizes: Sequence[int], window: int) -> tuple[Rule, Rule]:
    """A rule by key and one by owner. The limiter knows no bytes; to it they are requests."""
    by_key, by_owner = sizes
    return (
        Rule(f"{name}-key", "key", "requests", by_key, window_seconds=window),
        Rule(f"{name}-owner", "owner", "requests", by_owner, window_seconds=window),
    )
