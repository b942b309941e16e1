"""What has arrived of a request's body, without waiting for more.

ASGI's `receive` is a coroutine, so each read needs a timeout. Most bodies arrive together with their head, and then the
timeout and the coroutine cost more than the rest of the reading. The gateway's own server therefore puts a function
into the scope that returns what has arrived. Another server, as in tests, has none.
"""

from collections.abc import Callable

from starlette.types import Message, Scope

ReceiveArrived = Callable[[], Message | None]
"""Returns the next message of ASGI's `receive` if it has arrived, else None. Raises as `receive`."""

_EXTENSION = "flowbiz.arrived_body"
"""The function's name in `scope["extensions"]`, which ASGI provides for features of a server."""


def arrived_body_extension(receive_arrived: ReceiveArrived) -> dict[str, object]:
    """Return the `extensions` of a scope with this function."""
    return {_EXTENSION: receive_arrived}


def receive_arrived_of(scope: Scope) -> ReceiveArrived:
    """Return the function of the server; for a server without one, a function that finds nothing."""
    found: ReceiveArrived | None = scope.get("extensions", {}).get(_EXTENSION)
    return _nothing if found is None else found


def _nothing() -> None:
    return None
