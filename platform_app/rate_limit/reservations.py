"""What this process holds of counters, and under which name the server knows it.

Units are held per process and not per request: one field in a counter, renewed by one task for all, so that memory and
work do not grow with the number of requests that run. What the server forgot (it was flushed, or renewals were late) is
restored from here by the next request or renewal.

After a call whose outcome is unknown the server may hold units that nobody here knows of. The process then goes on
under another name: what it knows is moved, and what stays under the old name ends by itself.
"""

import secrets
from collections import deque
from collections.abc import Sequence

RENEW_SECONDS = 5.0
RESERVATION_SECONDS = 20.0
"""A hold ends so long after its last renewal; three renewals may fail."""
MAX_PREVIOUS_HOLDERS = 8


class Reservations:
    """Bounded by the requests that run."""

    def __init__(self) -> None:
        self.current_holder = _name()
        self.previous_holders: deque[str] = deque(maxlen=MAX_PREVIOUS_HOLDERS)
        """Names of before, whose holds have not been moved yet; the oldest is forgotten first, and ends by itself."""
        self._units: dict[str, int] = {}
        self._uncertain = False

    def known(self, counter: str) -> int:
        """The units of a counter that are held for certain."""
        return self._units.get(counter, 0)

    def add(self, counter: str, units: int) -> None:
        """These units are held now."""
        if units:
            self._units[counter] = self._units.get(counter, 0) + units

    def remove(self, counter: str, units: int) -> None:
        """These units are held no longer."""
        left = self._units.get(counter, 0) - units
        if left > 0:
            self._units[counter] = left
        else:
            self._units.pop(counter, None)

    def mark_uncertain(self) -> None:
        """A call ended without an answer: there may be units under this name that nobody here knows of."""
        self._uncertain = True

    def holder_id(self) -> str:
        """The name for a call that may hold something; another one after a doubt."""
        if self._uncertain:
            self._uncertain = False
            self.previous_holders.append(self.current_holder)
            self.current_holder = _name()
        return self.current_holder

    def counters(self) -> Sequence[str]:
        """Every counter of which something is held."""
        return list(self._units)


def _name() -> str:
    return secrets.token_urlsafe(8)
