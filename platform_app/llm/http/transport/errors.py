"""The errors of a request to a provider, besides a TimeoutError when its deadline passes."""


class TransportError(Exception):
    """A request to a provider failed. The error contains no text of the request or the response."""


class ConnectTimeout(TransportError):
    """No connection in time: waiting for a free one, looking up the address, connecting and TLS."""


class ConnectionLost(TransportError):
    """The provider could not be reached, or closed the connection before it responded."""


class ProxyRefused(TransportError):
    """The egress proxy opened no tunnel; `status` is the status of its response."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the proxy returned status {status}")
        self.status = status


class IncompleteResponse(TransportError):
    """The connection ended before the response was complete."""


class ProtocolError(TransportError):
    """The response is not valid HTTP, or its head is too large."""
