"""Bounds what clients without a key can make this process record: such requests are single events up to a number per
client address and minute; further ones are counted in one event (docs/adr/0019).

The bounds hold per process and minute, for all clients and addresses together: single events, addresses with their own
count, and memory.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from platform_app.ledger.events.access_decision import VARIOUS, AccessDecision
from platform_app.observability.networks import network_of

ADDRESSES_AT_THEIR_BOUND = 10
"""Addresses that can reach their bound in a minute before the process reaches its bound."""
MAX_COUNTS = 500
"""Counts of one minute that have an address; further addresses are counted together."""

_Outcome = tuple[str, str | None, int]


@dataclass(slots=True)
class RefusalCount:
    """Requests of one address and minute that had the same outcome and are not recorded one by one."""

    event: AccessDecision
    """The event that stands for all of them and has their number."""
    total_ms: float
    other_addresses: bool
    slot: int | None = None
    """The slot of the ledger's pending file that has the count until the minute ends."""

    def add(self, event: AccessDecision) -> None:
        """Count one more."""
        counted = self.event
        counted.count += 1
        self.total_ms += event.duration_ms
        counted.duration_ms = self.total_ms / counted.count
        if event.method != counted.method:
            counted.method = VARIOUS
        if event.route != counted.route:
            counted.route = VARIOUS


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
        """Return whether this request is recorded as a single event. If not, it is counted now."""
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
