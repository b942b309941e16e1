"""The limiter's interface and its answers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from platform_app.config import LimitRule
from platform_app.rate_limit.rules import Charge


@dataclass(frozen=True, slots=True)
class RuleState:
    """Where one rule stands after the decision."""

    rule: LimitRule
    remaining: int
    reset_seconds: float
    """Allowed: until some of the quota comes back. Denied by this rule: until this request would fit."""


@dataclass(frozen=True, slots=True)
class Decision:
    """All rules passed and were charged, or one denied and none was charged."""

    states: tuple[RuleState, ...]
    denied_by: RuleState | None = None

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.denied_by is None

    @property
    def tightest(self) -> RuleState | None:
        """The state to tell the caller: the rule that denied, else the one with the least room left."""
        if self.denied_by is not None:
            return self.denied_by
        return min(self.states, key=lambda state: state.remaining / state.rule.limit, default=None)

    @property
    def retry_after(self) -> int:
        """Whole seconds, rounded up, at least 1."""
        return max(1, math.ceil(self.denied_by.reset_seconds)) if self.denied_by else 0


class RateLimiter(Protocol):
    """Counts units against rules."""

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """Charge every rule, or none of them when one has no room.

        Raises:
            LimiterUnavailable: the counters cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...
