"""Turns for work that holds the event loop for long: a few large bodies at once must not delay the small requests.

A step on a large body takes a millisecond or more. If several bodies arrive together, their steps would all be ready
in the same iteration of the event loop, and a small request would wait for the sum of them at each of its awaits. So
each large step waits for its turn, and only one runs in an iteration.
"""

import asyncio
from heapq import heappop, heappush
from itertools import count
from weakref import WeakKeyDictionary

LARGE_BYTES = 128 * 1024
"""Work on more bytes than this waits for its turn."""
FIRST = 0
"""The ticket of work that is before all other work: it releases memory soon."""
_IDLE_ITERATIONS = 2
"""Iterations between two large steps, for all other work. Where there is none, they take microseconds."""


class _Turns:
    """The turns of one event loop. The lowest ticket is first: work that began earlier ends before other work holds as
    much memory."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        """A heap by ticket, then by the order in which the turns were asked for."""
        self._asked = count()
        self._idle = 0
        """Iterations until the next turn; 0 if it can be taken now."""

    async def take(self, ticket: int) -> None:
        """Wait until no other large step has run in this iteration and in those before it."""
        if not self._idle:
            self._begin()
            return
        turn = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (ticket, next(self._asked), turn))
        await turn  # cancelled: `_next` skips it

    def _begin(self) -> None:
        self._idle = 1 + _IDLE_ITERATIONS
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._idle -= 1
        if self._idle:
            asyncio.get_running_loop().call_soon(self._next)
            return
        while self._waiting:
            _, _, turn = heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                self._begin()
                return


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turns] = WeakKeyDictionary()
_TICKETS = count(FIRST + 1)


def new_ticket() -> int:
    """Return a ticket for all steps of one work. It is behind all earlier ones."""
    return next(_TICKETS)


async def turn_for(size: int, ticket: int = FIRST) -> None:
    """Wait until work on this many bytes may run; at once if it is not large. The turn lasts until the next await.

    The wait takes three iterations for each large step before it; the caller's own deadline bounds it.
    """
    if size <= LARGE_BYTES:
        return
    loop = asyncio.get_running_loop()
    turns = _TURNS.get(loop)
    if turns is None:
        turns = _TURNS[loop] = _Turns()
    await turns.take(ticket)
