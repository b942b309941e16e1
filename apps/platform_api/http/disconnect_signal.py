"""Word that a client's connection is gone, from the server's protocol to whoever works for that client.

ASGI has `receive` for that, which somebody must wait in: a task for every request, three per cent of its cost. Where
the server is another, as in tests, `disconnect.py` waits in `receive`.
"""

from collections.abc import Callable

from starlette.types import Scope

_EXTENSION = "flowbiz.departure"
"""In `scope["extensions"]`, where ASGI leaves room for what a server can do besides."""


class DisconnectSignal:
    """Of one connection."""

    __slots__ = ("_listen", "_told", "happened")

    def __init__(self, listen: Callable[[], None] = lambda: None) -> None:
        """`listen` makes the server read on where it paused, as it does for a large body or for requests that are sent
        ahead: a connection that is not read does not tell of its end."""
        self.happened = False
        self._listen = listen
        self._told: list[Callable[[], None]] = []

    def tell(self, callback: Callable[[], None]) -> None:
        """Call this when the connection is lost. Look first whether that happened already."""
        self._told.append(callback)
        self._listen()

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call it any more."""
        if callback in self._told:
            self._told.remove(callback)

    def happen(self) -> None:
        """The connection is lost."""
        self.happened = True
        told, self._told = self._told, []
        for callback in told:
            callback()

    def extension(self) -> dict[str, object]:
        """What a scope's `extensions` are to hold."""
        return {_EXTENSION: self}


def departure_of(scope: Scope) -> DisconnectSignal | None:
    """None: the server has no word for it."""
    found = scope.get("extensions", {}).get(_EXTENSION)
    return found if isinstance(found, DisconnectSignal) else None
