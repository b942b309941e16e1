"""The pool of connections to providers: limits the number in use, and keeps idle ones for a while."""

import asyncio
import contextlib
import socket
from collections import Counter, deque
from collections.abc import Callable

import aiohappyeyeballs

from platform_app.config import Egress, EgressProxy
from platform_app.llm.http.transport.connection import Connection
from platform_app.llm.http.transport.errors import ConnectionLost, ConnectTimeout, ProxyRefused
from platform_app.llm.http.transport.failures import PROXY_SETTING, SETTING, provider_failure
from platform_app.llm.http.transport.resolver import Resolver
from platform_app.llm.http.transport.response_stream import ResponseStream
from platform_app.llm.http.transport.target import Address
from platform_app.llm.http.transport.tls import TlsContexts
from platform_app.llm.http.transport.tunnel import open_tunnel
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger

KEEP_SECONDS = 15.0
"""How long an idle connection is kept. It is shorter than servers' idle timeouts, which are rarely below a minute."""
_CLOSE_SECONDS = 1.0
_LOG_SECONDS = 1.0
"""At most one log line for each address in this time. The counter counts every failure."""
_OUTCOMES = ("made", "failed", "timed_out", "proxy_refused")
_NEXT_ADDRESS_SECONDS = 0.25
"""The time until the next address is tried in parallel (RFC 8305, section 5)."""

_log = get_logger("provider")


class ConnectionPool:
    """Lends connections within one event loop. Its creator closes it."""

    def __init__(
        self,
        max_connections: int,
        *,
        keep_seconds: float = KEEP_SECONDS,
        tls: TlsContexts | None = None,
        egress: Egress | None = None,
    ) -> None:
        """Without `tls`, certificates are verified against OpenSSL's default store. Without `egress`, no proxy is
        used."""
        self._max = max_connections
        self._free = asyncio.Semaphore(max_connections)
        self._keep_seconds = keep_seconds
        self._tls = tls or TlsContexts()
        self._egress = egress or Egress()
        self._resolver = Resolver()
        self._open: set[Connection] = set()
        self._idle: dict[Address, deque[tuple[Connection, float]]] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._logged_at: dict[Address, float] = {}
        self._counted: set[str] = set()
        """The hosts whose connections are counted."""
        self._closed = False
        self._all_lost = asyncio.Event()
        self.made = 0
        """The number of connections that were opened so far."""

    async def send(self, address: Address, head: bytes, body: bytes, connect_until: float) -> ResponseStream:
        """Send a request over an idle connection or a new one.

        Args:
            address: the server's.
            head: the request's head, with its empty line.
            body: the request's body.
            connect_until: the loop's time at which waiting for a connection ends.

        Raises:
            ConnectTimeout: no connection was available by then.
            ConnectionLost: the server cannot be reached.
        """
        connection = await self._acquire(address, connect_until)
        return connection.send(head, body)

    async def aclose(self) -> None:
        """Close every connection, including those in use."""
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._open):
            connection.close()
        if self._open:  # their sockets close in the next iterations of the event loop
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._all_lost.wait()

    def connections_by_host(self) -> tuple[Counter[str], Counter[str]]:
        """Return the numbers of connections in use and of idle ones, by host."""
        idle = Counter({address.host: 0 for address in self._idle})
        for address, waiting in self._idle.items():
            idle[address.host] += len(waiting)
        return Counter(connection.address.host for connection in self._open) - idle, idle

    # Called by the connections.

    def released(self, connection: Connection, reusable: bool) -> None:
        """See ConnectionOwner.released."""
        if reusable and not self._closed and len(self._open) <= self._max:
            idle = self._idle.get(connection.address)
            if idle is None:
                idle = self._idle[connection.address] = deque()
            loop = asyncio.get_running_loop()
            idle.append((connection, loop.time()))
            if self._sweeping is None:
                self._sweeping = loop.call_later(self._keep_seconds, self._sweep)
        else:
            connection.close()
        self._free.release()

    def lost(self, connection: Connection) -> None:
        """See ConnectionOwner.lost."""
        self._open.discard(connection)
        if self._closed and not self._open:
            self._all_lost.set()

    async def _acquire(self, address: Address, connect_until: float) -> Connection:
        if self._free.locked():
            await self._wait_for_free_place(address, connect_until)
        else:
            await self._free.acquire()  # at once
        try:
            if self._closed:
                raise ConnectionLost
            return self._idle_connection(address) or await self._connect(address, connect_until)
        except BaseException:
            self._free.release()
            raise

    async def _wait_for_free_place(self, address: Address, until: float) -> None:
        try:
            async with asyncio.timeout_at(until):
                await self._free.acquire()
        except TimeoutError as error:
            self._note_failure(address, "timed_out", error, "all connections were in use")
            raise ConnectTimeout from None

    def _idle_connection(self, address: Address) -> Connection | None:
        """Return the connection that was used last, so that the others become old enough to be closed."""
        idle = self._idle.get(address)
        if not idle:
            return None
        oldest = asyncio.get_running_loop().time() - self._keep_seconds
        while idle:
            connection, since = idle.pop()
            if connection.usable and since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self, address: Address, until: float) -> Connection:
        try:
            async with asyncio.timeout_at(until):
                connection = await self._open_connection(address)
        except TimeoutError as error:
            self._note_failure(address, "timed_out", error)
            raise ConnectTimeout from None
        except ProxyRefused as error:
            self._note_failure(address, "proxy_refused", error)
            raise
        except (OSError, UnicodeError) as error:  # refused, unknown host, TLS failure, or a host name that is not valid
            self._resolver.forget(*self._next_hop(address))
            self._note_failure(address, "failed", error)
            raise ConnectionLost from error
        if not connection.is_lost:
            self._open.add(connection)
            if self._closed:
                connection.close()
        self.made += 1
        self._count(address.host, "made")
        return connection

    def _count(self, host: str, outcome: str) -> None:
        if host not in self._counted:  # `rate` does not see a series that appears, so all exist from a host's first one
            self._counted.add(host)
            for each in _OUTCOMES:
                metrics.PROVIDER_CONNECTIONS.labels(host, each)
        metrics.PROVIDER_CONNECTIONS.labels(host, outcome).inc()

    def _note_failure(self, address: Address, outcome: str, error: Exception, why: str | None = None) -> None:
        """Count the failure and log its reason. Callers see only that the provider cannot be reached."""
        self._count(address.host, outcome)
        now = asyncio.get_running_loop().time()
        if now - self._logged_at.get(address, -_LOG_SECONDS) >= _LOG_SECONDS:
            self._logged_at[address] = now
            proxy = self._proxy_for(address)
            _log.warning(
                "provider_connection_failed",
                host=address.host,
                port=address.port,
                error=type(error).__name__,
                why=why or str(provider_failure(error, SETTING if proxy is None else PROXY_SETTING)),
                via=_shown(proxy),
            )

    async def _open_connection(self, address: Address) -> Connection:
        loop = asyncio.get_running_loop()
        found = await self._resolver.resolve(*self._next_hop(address))
        sock = await aiohappyeyeballs.start_connection(
            found, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS if len(found) > 1 else None, loop=loop
        )

        def make() -> Connection:
            return Connection(self, address, loop)

        try:
            if (proxy := self._proxy_for(address)) is not None:
                return await self._connect_through_proxy(proxy, sock, address, make)
            if address.tls:
                _, connection = await loop.create_connection(
                    make, sock=sock, ssl=self._tls.context(address.client), server_hostname=address.host
                )
            else:
                _, connection = await loop.create_connection(make, sock=sock)
        except BaseException:
            sock.close()
            raise
        return connection

    async def _connect_through_proxy(
        self, proxy: EgressProxy, sock: socket.socket, address: Address, make: Callable[[], Connection]
    ) -> Connection:
        transport: asyncio.Transport | None = await open_tunnel(
            sock, proxy, address.host, address.port, self._tls.context(None)
        )
        assert transport is not None  # noqa: S101 - for mypy: start_tls may return None
        connection = make()
        try:
            if address.tls:
                transport = await asyncio.get_running_loop().start_tls(
                    transport, connection, self._tls.context(address.client), server_hostname=address.host
                )
            else:
                transport.set_protocol(connection)
            if transport is None or transport.is_closing():
                raise ConnectionResetError("the connection ended while it was opened")
        except BaseException:
            if transport is not None:
                transport.abort()
            raise
        connection.connection_made(transport)
        return connection

    def _proxy_for(self, address: Address) -> EgressProxy | None:
        return self._egress.proxy_for(address.host, address.port, tls=address.tls)

    def _next_hop(self, address: Address) -> tuple[str, int]:
        """Return the host and port to connect to: the proxy's or the server's."""
        proxy = self._proxy_for(address)
        return (address.host, address.port) if proxy is None else (proxy.host, proxy.port)

    def _sweep(self) -> None:
        """Close the connections that have been idle for too long."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._keep_seconds
        for idle in self._idle.values():  # at most one for each address in the config file
            while idle and (idle[0][1] < oldest or not idle[0][0].usable):
                idle.popleft()[0].close()
        some = any(self._idle.values())
        self._sweeping = loop.call_later(self._keep_seconds / 3, self._sweep) if some else None


def _shown(proxy: EgressProxy | None) -> str | None:
    """Return the proxy's host and port, without its credentials."""
    return None if proxy is None else f"{proxy.host}:{proxy.port}"
