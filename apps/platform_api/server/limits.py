"""Every bound of the server's edge, in one table. docs/operations.md says what a client sees where one is reached."""

from collections.abc import Sequence
from dataclasses import dataclass

from platform_app.config import Network, Settings, parse_networks


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds on one connection and on all of them. The defaults are those of Settings."""

    head_bytes: int = 32 * 1024
    """Maximum size of a request line with its header fields."""
    header_count: int = 100
    trailer_bytes: int = 8 * 1024
    """Maximum size of the fields after a chunked body, which are read and dropped."""
    pipelined_bytes: int = 64 * 1024
    """Maximum bytes that are read ahead during a request. A connection that sends more ends after that response."""
    heads_in_flight: int = 32 * 1024 * 1024
    """Maximum bytes of incomplete heads, and of requests that were read ahead, in this process. Beyond it, the
    connection whose bytes wait longest is refused."""
    head_seconds: float = 10.0
    """From the start of a connection, or from a head's first byte, to the head's end."""
    idle_seconds: float = 75.0
    """Between requests. Longer than the idle time of common load balancers (60 s), so that they end idle connections,
    not this server: a request that arrives while it closes would be lost."""
    data_rate: int = 240
    """Bytes per second at least, of a client that sends a body or takes a response (Kestrel's figure)."""
    grace_seconds: float = 5.0
    """The rate applies after this time."""
    write_seconds: float = 30.0
    """A client that reads slower than the rate for this long is disconnected."""
    unsent_bytes: int = 32 * 1024 * 1024
    """Maximum bytes of unread responses in this process. Beyond it, clients that read nothing for a second are
    disconnected, the one with the most unread bytes first."""
    linger_seconds: float = 2.0
    """Time in which data after a last response is read and dropped. Closing a connection with unread data resets it,
    and the client would lose the response."""
    linger_bytes: int = 16 * 1024 * 1024
    connections: int = 4000
    """Of this process, at once. Where it is reached, the connection that has been idle longest gives way."""
    connections_per_address: int = 1000
    """The same for one client address (for IPv6 one /64), except for trusted proxies."""
    trusted_proxies: Sequence[Network] = ()


def server_limits(settings: Settings, open_files: int) -> ServerLimits:
    """The bounds that the settings ask for, within what the process can have.

    `open_files` is the process's limit on file descriptors; a share of it stays for databases, providers and files.
    """
    return ServerLimits(
        head_bytes=settings.max_head_bytes,
        header_count=settings.max_header_count,
        trailer_bytes=settings.max_trailer_bytes,
        pipelined_bytes=settings.max_pipelined_bytes,
        heads_in_flight=settings.max_head_bytes_in_flight,
        head_seconds=settings.head_timeout_seconds,
        idle_seconds=settings.keep_alive_seconds,
        data_rate=settings.min_data_rate,
        write_seconds=settings.write_timeout_seconds,
        unsent_bytes=settings.max_unsent_bytes,
        connections=min(settings.max_connections, max(16, open_files * 3 // 4)),
        connections_per_address=settings.max_connections_per_address,
        trusted_proxies=parse_networks(settings.trusted_proxies),
    )
