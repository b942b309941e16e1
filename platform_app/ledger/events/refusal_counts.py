"""Bounds what strangers can make this process record: requests without a verified key are events of their own up to a
number per client address and minute, and from then on they only count in an event for all of them.

Everything is bounded per process and minute, whoever asks and from however many addresses: the events of their own, the
addresses that have a count, and what is kept in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from platform_app.ledger.events.access_decision import VARIOUS, AccessDecision
from platform_app.observability.networks import network_of

ADDRESSES_AT_THEIR_BOUND = 10
"""So many addresses may reach their own bound in a minute before the process has reached its own."""
MAX_COUNTS = 500
"""Counts of one minute that have an address; further addresses are counted together."""

_Outcome = tuple[str, str | None, int]


@dataclass(slots=True)
class RefusalCount:
    """Requests of one address and minute that ended alike, and are not recorded one by one."""

    event: AccessDecision
    """What stands for all of them, with their number."""
    total_ms: float
    other_addresses: bool
    slot: int | None = None
    """Where the ledger keeps it until the minute is over."""

    def add(self, event: AccessDecision) -> None:
        """Count one more."""
        ours = self.event
        ours.count += 1
        self.total_ms += event.duration_ms
        ours.duration_ms = self.total_ms / ours.count
        if event.method != ours.method:
            ours.method = VARIOUS
        if event.route != ours.route:
            ours.route = VARIOUS


class RefusalCounts:
    """Decides which requests without a verified key are recorded one by one, and counts the others."""

    def __init__(
        self,
        per_address: int,
        changed: Callable[[RefusalCount], None],
        ended: Callable[[RefusalCount], None],
    ) -> None:
        """
        Args:
            per_address: requests of one address (of an IPv6 /64) and minute that are recorded one by one.
            changed: called with each request that is counted.
            ended: called with each count when its minute is over.
        """
        self._per_address = per_address
        self._per_process = per_address * ADDRESSES_AT_THEIR_BOUND
        self._changed = changed
        self._ended = ended
        self._minute = 0
        self._recorded: dict[str, int] = {}
        self._recorded_in_all = 0
        self._counts: dict[tuple[str | None, _Outcome], RefusalCount] = {}

    def take(self, event: AccessDecision) -> bool:
        """Whether this request is recorded by itself; else it is counted now."""
        minute = _minute_of(event.occurred_at)
        if minute != self._minute:
            self.end_minute()
            self._minute = minute
        network = network_of(event.client_address or "")
        recorded = self._recorded.get(network, 0)
        if recorded < self._per_address and self._recorded_in_all < self._per_process:
            self._recorded[network] = recorded + 1
            self._recorded_in_all += 1
            return True
        self._count(network, event)
        return False

    def end_minute(self, now: datetime | None = None) -> None:
        """End all counts; with `now` only if their minute is over by then."""
        if now is not None and _minute_of(now) == self._minute:
            return
        counts, self._counts = self._counts, {}
        self._recorded, self._recorded_in_all = {}, 0
        for count in counts.values():
            self._ended(count)

    def _count(self, network: str, event: AccessDecision) -> None:
        outcome = event.decision, event.reason, event.status  # all of them from closed sets
        found = self._counts.get((network, outcome))
        known: str | None = network
        if found is None and len(self._counts) >= MAX_COUNTS:
            known = None
            found = self._counts.get((None, outcome))
        if found is not None:
            found.add(event)
        else:
            # The time, the ids and the address of its first request; for IPv6 the /64 in place of the address.
            address = known if known is None or "/" in known else event.client_address
            found = RefusalCount(replace(event, client_address=address), event.duration_ms, known is None)
            self._counts[known, outcome] = found
        self._changed(found)


def _minute_of(moment: datetime) -> int:
    return int(moment.timestamp()) // 60
