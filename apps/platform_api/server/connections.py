"""All client connections of a process: limit their number, and check their timeouts."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import Protocol

from apps.platform_api.server.limits import ServerLimits
from apps.platform_api.server.memory import BurstMemory
from apps.platform_api.server.refusal import Reason, Refusal
from platform_app.config import Network
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.observability.networks import network_of

SWEEP_SECONDS = 0.5
LOG_SECONDS = 10.0
"""The interval between two log lines with the same reason. A line costs more than the event that it reports."""

_log = get_logger("http_server")


class Connection(Protocol):
    """A connection, as `Connections` sees it."""

    address: str

    def check(self, now: float) -> None:
        """Close the connection if one of its timeouts has expired; `now` is `Connections.now`."""

    def close_idle(self) -> None:
        """Close the idle connection, so that another one can be admitted."""

    def refuse_held(self) -> None:
        """Refuse the request whose bytes are held, to free them."""

    def unsent(self) -> int:
        """Return the number of response bytes that the client has not received."""
        ...

    def stands_still(self, now: float) -> bool:
        """Return whether the client has received none of them for a second."""
        ...

    def end_slow_reader(self) -> None:
        """Disconnect a client that does not read its response."""

    def abort(self) -> None:
        """Close the connection at once."""


class Connections:
    """Admits connections, and checks each of them twice a second. One timer serves all connections."""

    def __init__(self, limits: ServerLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._swept_at = 0.0
        self.now = 0.0
        """The clock of all timeouts of connections, in seconds. It advances by at most two sweeps at a time, so a stall
        of the process does not expire the timeouts of its clients."""
        self._common: tuple[Sequence[tuple[bytes, bytes]], bytes] = ((), b"")
        self._all: set[Connection] = set()
        """All connections whose sockets are open, so that none escapes the checks."""
        self._evicted: set[Connection] = set()
        """Those of them that were closed for another connection and no longer count."""
        self._by_network: dict[str, int] = {}
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._held: OrderedDict[Connection, int] = OrderedDict()
        """The bytes of requests that wait in connections for their rest or their turn; the oldest come first."""
        self._held_bytes = 0
        self._memory = BurstMemory()
        self._logged: dict[Reason, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection) -> Refusal | None:
        """Admit a new connection, or return why it is refused. At a limit, an idle connection is closed for it: one
        from the same network if the network's limit is reached, else any."""
        network = network_of(connection.address)
        count = self._by_network.get(network, 0)
        if count >= self._limits.connections_per_address and not self._is_trusted(connection.address):
            if not self._evict(network):
                return _too_many(Reason.CONNECTIONS_PER_ADDRESS, "Your address has too many open connections.")
        elif len(self._all) - len(self._evicted) >= self._limits.connections and not self._evict(None):
            return _too_many(Reason.CONNECTIONS, "This instance has too many open connections.")
        self._all.add(connection)
        self._by_network[network] = self._by_network.get(network, 0) + 1
        if self._timer is None:
            self._swept_at = self._clock()
            self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        return None

    def remove(self, connection: Connection) -> None:
        """Remove a connection whose socket is closed. A connection that was not admitted is ignored."""
        if connection not in self._all:
            return
        self._all.discard(connection)
        self._idle.pop(connection, None)
        self.hold(connection, 0)
        if connection in self._evicted:
            self._evicted.discard(connection)
        else:
            self._leave_network(connection)

    def _leave_network(self, connection: Connection) -> None:
        network = network_of(connection.address)
        left = self._by_network.get(network, 1) - 1
        if left:
            self._by_network[network] = left
        else:
            self._by_network.pop(network, None)

    def set_idle(self, connection: Connection, *, idle: bool) -> None:
        """Note whether a connection can be closed without interrupting a request."""
        if not idle:
            self._idle.pop(connection, None)
        elif connection in self._all:
            self._idle[connection] = None

    def hold(self, connection: Connection, size: int) -> None:
        """Note the bytes that a connection holds of incomplete or waiting requests. If all hold too many together, the
        oldest are refused: a head that arrives as usual is complete long before it is the oldest."""
        self._held_bytes += size - self._held.get(connection, 0)
        if size:
            self._held[connection] = size
        else:
            self._held.pop(connection, None)
        while self._held_bytes > self._limits.heads_in_flight:
            oldest, freed = self._held.popitem(last=False)
            self._held_bytes -= freed
            self._memory.note(self._held_bytes + freed, self.now)
            oldest.refuse_held()

    def common_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the header lines of uvicorn's own headers, such as the date. uvicorn replaces `headers` once a
        second; until then the encoded lines are reused."""
        if self._common[0] is not headers:
            self._common = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common[1]

    def count(self, reason: Reason, address: str) -> None:
        """Count a refused request or a closed connection, and log it at most once in LOG_SECONDS."""
        metrics.HTTP_REFUSED.labels(reason.value).inc()
        now = self._clock()
        if now - self._logged.get(reason, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged[reason] = now
            _log.warning("http_refused", reason=reason.value, client_address=address)

    def _evict(self, network: str | None) -> bool:
        """Close an idle connection. One whose client has not received its last response is not idle; it is closed only
        if the client receives nothing, and then at once: an orderly close would wait for the client."""
        for connection in self._idle_of(network):
            if not connection.unsent():
                self._give_place(connection)
                self.count(Reason.IDLE, connection.address)
                connection.close_idle()
                return True
        for connection in self._idle_of(network):
            if connection.stands_still(self.now):
                self._give_place(connection)
                connection.end_slow_reader()
                return True
        return False

    def _idle_of(self, network: str | None) -> Iterator[Connection]:
        """Yield the idle connections of a network, or all of them; the one that has been idle longest comes first."""
        return (each for each in self._idle if network is None or network_of(each.address) == network)

    def _give_place(self, connection: Connection) -> None:
        """Let the place of a connection go to another one. It is checked until its socket is closed."""
        self._idle.pop(connection, None)
        if connection in self._all:
            self._evicted.add(connection)
            self._leave_network(connection)

    def _bound_unsent(self) -> None:
        sizes = {connection: size for connection in self._all if (size := connection.unsent())}
        unsent = sum(sizes.values())
        self._memory.note(unsent + self._held_bytes, self.now)
        excess = unsent - self._limits.unsent_bytes
        if excess <= 0:
            return
        for connection in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if excess > 0 and connection.stands_still(self.now):
                excess -= sizes[connection]
                connection.end_slow_reader()

    def _is_trusted(self, address: str) -> bool:
        return _in_networks(address, tuple(self._limits.trusted_proxies))

    def _sweep(self) -> None:
        at = self._clock()
        self.now += min(at - self._swept_at, 2 * SWEEP_SECONDS)
        self._swept_at = at
        # The next sweep is scheduled first, so that an error in this one does not end the checks.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep)
        for connection in list(self._all):
            try:
                connection.check(self.now)
            except Exception as error:  # noqa: BLE001 - a bug in one connection must not end the checks of all
                self._drop(connection, error)
        self._bound_unsent()
        metrics.HTTP_CONNECTIONS.set(len(self._all))
        if not self._all and not self._memory.pending:
            self._timer.cancel()
            self._timer = None

    def _drop(self, connection: Connection, error: Exception) -> None:
        """Abort a connection whose check raised an error, which is a bug."""
        _log.error("http_connection_check_failed", client_address=connection.address, exc_info=error)
        connection.abort()


def _too_many(reason: Reason, message: str) -> Refusal:
    return Refusal(503, "overloaded", reason, f"{message} Close some of them, or try again shortly.")


@lru_cache(1024)
def _in_networks(address: str, networks: tuple[Network, ...]) -> bool:
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)
