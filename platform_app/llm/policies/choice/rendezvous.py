"""Weighted rendezvous hashing: an order of the routes for each session, computed from the session's key alone.

Each route gets a number from a hash of the key and the route's name, scaled by its weight; the lowest number is the
first choice. Workers agree without shared state, sessions are spread by weight, and a route that is added or removed
moves only the sessions that it gains or had.

Source: https://www.snia.org/sites/default/files/SDC15_presentations/dist_sys/Jason_Resch_New_Consistent_Hashings_Rev.pdf
"""

from collections.abc import Sequence
from hashlib import blake2b
from math import log

_DIGEST_BYTES = 7
"""56 bits: the largest number of whole bytes that a float represents nearly exactly."""
_RANGE = float(1 << 8 * _DIGEST_BYTES)


class Rendezvous:
    """The routes of one model, by name and weight."""

    def __init__(self, routes: Sequence[tuple[str, int]]) -> None:
        """`routes`: a name that stays the same across workers and restarts, and the weight."""
        self._routes = [
            (index, blake2b(name.encode(), digest_size=16).digest(), float(weight))
            for index, (name, weight) in enumerate(routes)
        ]

    def order(self, key: bytes) -> list[int]:
        """Return the indexes of the routes for a session's key, the first choice first."""
        scores = []
        for index, seed, weight in self._routes:
            drawn = int.from_bytes(blake2b(seed + key, digest_size=_DIGEST_BYTES).digest(), "big")
            # An exponentially distributed number whose rate is the weight. + 0.5: log(0) has no value.
            scores.append((-log((drawn + 0.5) / _RANGE) / weight, index))
        scores.sort()
        return [index for _, index in scores]
