"""The limiter's interface: charges in, decisions out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Rule
from platform_app.value_types import request_dataclass


@request_dataclass(frozen=True, slots=True)
class RuleState:
    """A rule's state after a decision."""

    rule: Rule
    remaining: int
    reset_seconds: float
    """Allowed: seconds until some used units return. Denied by this rule: seconds until this request would fit."""
    shadow_denied: bool = False
    """A shadow rule would have denied the request; it was not charged."""


Settlement = Sequence[Mapping[str, Any]]
"""Input of `OrphanSettlements`: for each script call the holder, the time of admission and the counters."""


class Admission(Protocol):
    """The units that an admitted request has reserved until it ends."""

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """Replace the reserved units with the used ones. Only the first call has an effect. Returns at once and never
        raises, since the caller could do nothing about a failure.

        Args:
            tokens: None if unknown; then the reserved units count as used.
            cost_microusd: None if unknown.
            assumed_costs: what counts instead, by rule name: the cost at the price that the rule states for models
                without one. A rule without an entry counts nothing. None: the reserved units count.
        """
        ...

    def release(self) -> None:
        """Return the reserved units: no provider was called, or the provider refused."""
        ...

    def settlement(self) -> Settlement:
        """Return what another process must settle if this one dies first, as data for JSON. Empty if nothing outlives
        this process."""
        ...


class NothingReserved:
    """The admission of a request that reserved nothing."""

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """Do nothing."""

    def release(self) -> None:
        """Do nothing."""

    def settlement(self) -> Settlement:
        """Return nothing to settle."""
        return ()


NOTHING_RESERVED = NothingReserved()


@request_dataclass(frozen=True, slots=True)
class Decision:
    """All rules passed and were charged, or one denied and none was charged."""

    states: tuple[RuleState, ...]
    denied_by: RuleState | None = None
    admission: Admission = NOTHING_RESERVED
    at_microseconds: int = 0
    """Time of the decision, on the server's clock; 0 from limiters without one."""
    degraded: bool = False
    """Decided by this process alone, by its share of the limits, because Redis is unavailable."""

    @property
    def allowed(self) -> bool:
        """Whether the request is admitted."""
        return self.denied_by is None

    @property
    def retry_after(self) -> int:
        """Whole seconds until the request would fit, rounded up, at least 1; 0 if it was allowed."""
        return max(1, math.ceil(self.denied_by.reset_seconds)) if self.denied_by else 0


class CountersUnknown(Exception):
    """Redis has no complete counter of a budget, and the ledger cannot be read now. Clients never see it: the request
    is decided as while Redis is unavailable."""


class RateLimiter(Protocol):
    """Counts units against rules."""

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """Charge every rule, or none of them if one has no room.

        Raises:
            LimiterUnavailable: the counters are unreachable.
        """
        ...

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """Return the state of the rules and charge nothing.

        Raises:
            LimiterUnavailable: the counters are unreachable.
        """
        ...

    async def aclose(self) -> None:
        """Release all connections; called once, at shutdown."""
        ...
