"""Remember denials by request rules, so that further requests are refused before their body is read and without Redis.

This changes no decision: it repeats the limiter's denial until the time that the limiter returned, before which the
window has no room for another request.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from platform_app.rate_limit.limiter import Decision
from platform_app.rate_limit.matching import Charge

MAX_COUNTERS = 10_000
LONGEST_SECONDS = 60.0
"""Longest time that a denial is remembered: the counters may be deleted meanwhile."""
LONGEST_DEGRADED_SECONDS = 1.0
"""The same for a decision by this process's share: Redis may be available again."""


class KnownDenials:
    """Remembers denials by counter and limit, so that a raised limit applies at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, int], tuple[float, float, Decision]] = OrderedDict()

    def __bool__(self) -> bool:
        """Return whether any denial is remembered."""
        return bool(self._known)

    def note(self, charges: Sequence[Charge], decision: Decision) -> None:
        """Remember that the limiter denied a request with these charges."""
        denied_by = decision.denied_by
        if denied_by is None or denied_by.rule.unit != "requests":
            return  # the units of other rules are not known before the body is read
        counter = next(charge.counter for charge in charges if charge.rule.name == denied_by.rule.name)
        name = counter, denied_by.rule.limit
        longest = LONGEST_DEGRADED_SECONDS if decision.degraded else LONGEST_SECONDS
        now = self._clock()
        self._known[name] = now, now + min(denied_by.reset_seconds, longest), decision
        self._known.move_to_end(name)
        if len(self._known) > MAX_COUNTERS:
            self._known.popitem(last=False)

    def find(self, charges: Sequence[Charge]) -> Decision | None:
        """Return the remembered denial for these charges, with the remaining times; None if there is none."""
        if not self._known:
            return None
        for charge in charges:
            known = self._known.get((charge.counter, charge.rule.limit))
            if known is None or charge.rule.shadow:
                continue
            noted_at, until, decision = known
            now = self._clock()
            if now < until:
                return _later(decision, now - noted_at)
            del self._known[charge.counter, charge.rule.limit]
        return None


def _later(decision: Decision, seconds: float) -> Decision:
    """Return the decision with its times reduced by `seconds`."""
    assert decision.denied_by is not None  # noqa: S101 - for mypy: only denials are kept
    moved = {
        id(state): replace(state, reset_seconds=max(0.0, state.reset_seconds - seconds))
        for state in (*decision.states, decision.denied_by)
    }
    states = tuple(moved[id(state)] for state in decision.states)
    return Decision(states, moved[id(decision.denied_by)])
