"""Which limits of requests are known to be reached, and until when: such a request is refused before its body is read,
without asking Redis.

Nothing is loosened by it, since it only repeats what the limiter said; and nothing is tightened: a window that has no
room for one request has none until the limiter's own time.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace

from platform_app.rate_limit.limiter import Decision
from platform_app.rate_limit.matching import Charge

MAX_COUNTERS = 10_000
LONGEST_SECONDS = 60.0
"""Then the limiter is asked again, should its counters have been deleted meanwhile."""
LONGEST_DEGRADED_SECONDS = 1.0
"""For what this process decided by its share alone: Redis may be back."""


class KnownDenials:
    """Remembers denials by their counter and limit, so that a limit that was raised counts at once."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, int], tuple[float, float, Decision]] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether any denial is remembered."""
        return bool(self._known)

    def note(self, charges: Sequence[Charge], decision: Decision) -> None:
        """The limiter has denied a request with these charges."""
        denied_by = decision.denied_by
        if denied_by is None or denied_by.rule.unit != "requests":
            return  # how much a request takes of other limits is not known before its body
        counter = next(charge.counter for charge in charges if charge.rule.name == denied_by.rule.name)
        name = counter, denied_by.rule.limit
        longest = LONGEST_DEGRADED_SECONDS if decision.degraded else LONGEST_SECONDS
        now = self._clock()
        self._known[name] = now, now + min(denied_by.reset_seconds, longest), decision
        self._known.move_to_end(name)
        if len(self._known) > MAX_COUNTERS:
            self._known.popitem(last=False)

    def find(self, charges: Sequence[Charge]) -> Decision | None:
        """The denial that is known to hold for such a request now, with the times that are left."""
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
    """The same some seconds later."""
    assert decision.denied_by is not None  # noqa: S101 - for mypy: only denials are kept
    moved = {
        id(state): replace(state, reset_seconds=max(0.0, state.reset_seconds - seconds))
        for state in (*decision.states, decision.denied_by)
    }
    states = tuple(moved[id(state)] for state in decision.states)
    return Decision(states, moved[id(decision.denied_by)])
