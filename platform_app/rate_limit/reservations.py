"""The units that this process has reserved, and the holder id under which Redis knows them.

Units are reserved per process, not per request: each counter has one field for this process, and one task renews all of
them. So memory and work do not grow with the number of running requests. Reservations that Redis has lost (it was
flushed, or renewals were late) are restored from here by the next request or renewal.

After a call without a response, Redis may have reserved units that this process does not know of. The process then
continues with a new holder id. A renewal moves the known units to it, and the unknown units under the previous id
expire.
"""

import secrets
from collections import deque
from collections.abc import Sequence

RENEW_SECONDS = 5.0
RESERVATION_SECONDS = 20.0
"""A reservation ends this long after its last renewal, so three renewals may fail."""
MAX_PREVIOUS_HOLDERS = 8


class Reservations:
    """Counts reserved units by counter. Its size is bounded by the running requests."""

    def __init__(self) -> None:
        self.current_holder = _new_id()
        self.previous_holders: deque[str] = deque(maxlen=MAX_PREVIOUS_HOLDERS)
        """Previous ids whose reservations were not moved yet. If there are too many, the oldest is dropped and
        expires."""
        self._units: dict[str, int] = {}
        self._uncertain = False

    def known(self, counter: str) -> int:
        """Return the units of a counter that are reserved for certain."""
        return self._units.get(counter, 0)

    def add(self, counter: str, units: int) -> None:
        """Note that these units are reserved."""
        if units:
            self._units[counter] = self._units.get(counter, 0) + units

    def remove(self, counter: str, units: int) -> None:
        """Note that these units are no longer reserved."""
        left = self._units.get(counter, 0) - units
        if left > 0:
            self._units[counter] = left
        else:
            self._units.pop(counter, None)

    def mark_uncertain(self) -> None:
        """Note that a call ended without a response: Redis may have reserved unknown units under the current id."""
        self._uncertain = True

    def holder_id(self) -> str:
        """Return the id for a call that may reserve units; a new one after `mark_uncertain`."""
        if self._uncertain:
            self._uncertain = False
            self.previous_holders.append(self.current_holder)
            self.current_holder = _new_id()
        return self.current_holder

    def counters(self) -> Sequence[str]:
        """Return all counters with reserved units."""
        return list(self._units)


def _new_id() -> str:
    return secrets.token_urlsafe(8)
