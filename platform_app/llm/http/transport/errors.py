"""How an response can fail, besides a TimeoutError where its deadline passed."""


class TransportError(Exception):
    """An response with a provider failed. Holds nothing of what was said in it."""


class ConnectTimeout(TransportError):
    """No connection within the time for that: waiting for a free one, resolving, connecting and TLS."""


class ConnectionLost(TransportError):
    """The other end could not be reached, or hung up before it answered."""


class ProxyRefused(TransportError):
    """The proxy on the way out opened no tunnel; `status` is what it answered."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy answered {status}")
        self.status = status


class IncompleteResponse(TransportError):
    """The connection ended in the middle of an answer."""


class ProtocolError(TransportError):
    """What came is not HTTP, or has a head without an end."""
