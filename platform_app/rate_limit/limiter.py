"""The limiter's interface and its answers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule


@dataclass(frozen=True, slots=True)
class RuleState:
    """Where one rule stands after the decision."""

    rule: Rule
    remaining: int
    reset_seconds: float
    """Allowed: until some of the quota comes back. Denied by this rule: until this request would fit."""
    shadow_denied: bool = False
    """A shadow rule that would have denied; it was not charged."""


Settlement = Sequence[Mapping[str, Any]]
"""What `OrphanSettlements` takes: for each call of a script the holder, the time of admission and the counters."""


class Admission(Protocol):
    """What a request that was let in holds until its end."""

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """It is over, and used so much; None where nobody knows: what was reserved is taken for used, or, of a cost,
        what the rule takes it for (`assumed_costs`, by rule name). The first call counts; returns at once and never
        fails, since nothing is left to be done about it."""
        ...

    def release(self) -> None:
        """It is over and used nothing: no provider was called, or it refused."""
        ...

    def settlement(self) -> Settlement:
        """What must be settled if this process dies before it does that itself, as data for JSON. Empty where nothing
        outlives the process."""
        ...


class NothingReserved:
    """Of requests to which no rule applies that holds anything."""

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """Does nothing."""

    def release(self) -> None:
        """Does nothing."""

    def settlement(self) -> Settlement:
        """Nothing."""
        return ()


NOTHING_RESERVED = NothingReserved()


@dataclass(frozen=True, slots=True)
class Decision:
    """All rules passed and were charged, or one denied and none was charged."""

    states: tuple[RuleState, ...]
    denied_by: RuleState | None = None
    admission: Admission = NOTHING_RESERVED
    at_microseconds: int = 0
    """When, on the clock of whoever decided."""
    degraded: bool = False
    """Decided by this process's share alone, since Redis is down."""

    @property
    def allowed(self) -> bool:
        """Whether the request may go on."""
        return self.denied_by is None

    @property
    def retry_after(self) -> int:
        """Whole seconds, rounded up, at least 1."""
        return max(1, math.ceil(self.denied_by.reset_seconds)) if self.denied_by else 0


class CountersUnknown(Exception):
    """Redis has lost a budget's counter, and what was spent before is not known right now. Never reaches a caller: the
    request is decided as while Redis is down."""


class RateLimiter(Protocol):
    """Counts units against rules."""

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """Charge every rule, or none of them when one has no room.

        Raises:
            LimiterUnavailable: the counters cannot be reached.
        """
        ...

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """How the rules stand, charging nothing.

        Raises:
            LimiterUnavailable: the counters cannot be reached.
        """
        ...

    async def aclose(self) -> None:
        """Release connections; called once, at the end."""
        ...
