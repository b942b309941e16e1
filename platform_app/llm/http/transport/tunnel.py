"""Open a tunnel through an HTTP proxy (CONNECT, RFC 9110, section 9.3.6)."""

import asyncio
import re
import socket
import ssl

from platform_app.config import EgressProxy
from platform_app.llm.http.transport.errors import ProxyRefused

MAX_HEAD_BYTES = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[ \r]")


async def open_tunnel(
    sock: socket.socket, proxy: EgressProxy, host: str, port: int, tls: ssl.SSLContext
) -> asyncio.Transport:
    """Request a tunnel from the proxy at this connected socket, and return the transport to the server.

    Args:
        sock: closed if this fails.
        proxy: its credentials are sent to the proxy only.
        host: the server's; the proxy looks up its addresses.
        port: the server's.
        tls: the context for the connection to the proxy itself, if that uses TLS.

    Raises:
        ProxyRefused: the proxy opened no tunnel.
        OSError: the connection ended, or the response is not valid.
    """
    loop = asyncio.get_running_loop()
    response: asyncio.Future[int] = loop.create_future()
    if proxy.tls:
        made, _ = await loop.create_connection(
            lambda: _Response(response), sock=sock, ssl=tls, server_hostname=proxy.host
        )
    else:
        made, _ = await loop.create_connection(lambda: _Response(response), sock=sock)
    transport = made
    try:
        transport.write(_request(proxy, host, port))
        status = await response
        if not 200 <= status < 300:
            raise ProxyRefused(status)
    except BaseException:
        transport.abort()
        raise
    return transport


def _request(proxy: EgressProxy, host: str, port: int) -> bytes:
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.authorization is not None:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode()


class _Response(asyncio.Protocol):
    """Reads the head of the proxy's response. No bytes may follow the head of a 2xx: the client sends first."""

    def __init__(self, response: "asyncio.Future[int]") -> None:
        self._response = response
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        _, end, rest = self._head.partition(b"\r\n\r\n")
        status = _STATUS.match(self._head)
        if not end:
            if len(self._head) > MAX_HEAD_BYTES:
                self._fail("the head of the proxy's response is too large")
        elif status is None:
            self._fail("the proxy does not speak HTTP/1.1")
        elif rest and status[1].startswith(b"2"):
            self._fail("the proxy sent bytes after the head of its response")
        elif not self._response.done():
            self._response.set_result(int(status[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("the proxy closed the connection")

    def _fail(self, why: str) -> None:
        if not self._response.done():
            self._response.set_exception(ConnectionError(why))
