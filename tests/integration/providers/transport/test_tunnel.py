"""Connections through a proxy, on both event loops: with every kind of response, and without a leak of its
credentials."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from platform_app.config import Egress, parse_proxy, read_egress
from platform_app.llm.http.transport.errors import ConnectionLost, ConnectTimeout, ProxyRefused, TransportError
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.target import target_of
from platform_app.llm.http.transport.tls import ClientCertificate, TlsContexts
from tests.integration.providers.transport.conftest import Run
from tests.support.providers.transport import Client, always, sized
from tests.support.servers.network.tcp import Server
from tests.support.servers.network.tls.certificates import Authority

CREDENTIALS = "user:s3cret-canary"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\nVia: a test\r\n\r\n"


class Proxy:
    """A proxy that responds to CONNECT with given bytes, and after a 2xx relays everything."""

    def __init__(self, response: bytes = ESTABLISHED) -> None:
        self.answer = response
        self.heads: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(self.answer)
        await writer.drain()
        if self.answer != ESTABLISHED:
            await reader.read()
            return
        host, _, port = head.split(b" ")[1].decode().rpartition(":")
        inner_reader, inner_writer = await asyncio.open_connection(host.strip("[]"), int(port))
        both = [asyncio.create_task(_copy(*way)) for way in ((reader, inner_writer), (inner_reader, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            inner_writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await inner_writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(64 * 1024):
            writer.write(data)
            await writer.drain()


@pytest.fixture
def authority() -> Authority:
    return Authority()


def server_side(authority: Authority, directory: Path, *, clients: Path | None = None) -> ssl.SSLContext:
    """Return a server's context for 127.0.0.1; with `clients` it requires a certificate that this CA signed."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue(directory, "127.0.0.1"))
    if clients is not None:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def through(
    proxy: Proxy,
    directory: Path,
    authority: Authority,
    *,
    server_tls: ssl.SSLContext | None = None,
    proxy_tls: ssl.SSLContext | None = None,
    credentials: str = "",
    client: ClientCertificate | None = None,
) -> AsyncIterator[Client]:
    """Create a client of a working server behind the proxy."""
    bundle = authority.write(directory / "ca.pem")
    async with Server(always(sized(b"hello")), server_tls) as server, Server(proxy.serve, proxy_tls) as outer:
        scheme, _, address = outer.url.partition("://")
        egress = Egress(parse_proxy(f"{scheme}://{credentials}{'@' * bool(credentials)}{address}"))
        pool = ConnectionPool(4, tls=TlsContexts(bundle), egress=egress)
        try:
            yield Client(pool, target_of(f"{server.url}/v1", client))
        finally:
            await pool.aclose()


@pytest.mark.parametrize("proxy_tls", [False, True], ids=["http proxy", "https proxy"])
@pytest.mark.parametrize("server_tls", [False, True], ids=["http server", "https server"])
def test_server_is_reached_through_proxy(
    run: Run, server_tls: bool, proxy_tls: bool, tmp_path: Path, authority: Authority
) -> None:
    """There is one tunnel for many requests, and only the proxy gets the credentials."""

    async def scenario() -> None:
        proxy = Proxy()
        contexts = [server_side(authority, tmp_path) if tls else None for tls in (server_tls, proxy_tls)]
        async with through(
            proxy, tmp_path, authority, server_tls=contexts[0], proxy_tls=contexts[1], credentials=CREDENTIALS
        ) as client:
            for _ in range(3):
                assert await client.body() == b"hello"
            assert client.pool.made == 1
            port = client.target.address.port
        lines = proxy.heads[0].split(b"\r\n")
        assert len(proxy.heads) == 1
        assert lines[0] == b"CONNECT 127.0.0.1:%d HTTP/1.1" % port
        assert b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQtY2FuYXJ5" in lines

    run(scenario())


REFUSALS = {
    "credentials": (b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n", ProxyRefused),
    "destination": (b"HTTP/1.0 403 Filtered\r\nContent-Length: 2\r\n\r\nno", ProxyRefused),
    "unreachable": (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", ProxyRefused),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n", ProxyRefused),
    "no proxy": (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", ConnectionLost),
    "no status": (b"HTTP/1.1 hello\r\n\r\n", ConnectionLost),
    "smuggled response": (ESTABLISHED + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", ConnectionLost),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, ConnectionLost),
    "silence": (b"", ConnectTimeout),
    "half a head": (b"HTTP/1.1 200 Connection esta", ConnectTimeout),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_proxy_refusal_raises_proxy_refused(run: Run, kind: str, tmp_path: Path, authority: Authority) -> None:
    """Each is an error at once, or within the connect timeout; the bytes are never read as the server's."""
    response, expected = REFUSALS[kind]

    async def scenario() -> None:
        async with through(Proxy(response), tmp_path, authority, credentials=CREDENTIALS) as client:
            with capture_logs() as lines, pytest.raises(expected) as caught:
                await client.send(connect_seconds=0.5 if expected is ConnectTimeout else 20)
            assert isinstance(caught.value, TransportError)
            assert client.pool._open == set()
        shown = f"{lines} {caught.value!r} {caught.value.__cause__!r}"
        assert "s3cret" not in shown
        assert "dXNlcjpz" not in shown
        assert [line["via"] for line in lines] == [f"127.0.0.1:{lines[0]['via'].partition(':')[2]}"]

    run(scenario())


def test_unreachable_proxy_raises_connection_lost(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with Server(always(sized(b"hello"))) as gone:
            egress = Egress(parse_proxy(f"http://{CREDENTIALS}@127.0.0.1:{gone.port}"))
        pool = ConnectionPool(1, egress=egress)
        with pytest.raises(ConnectionLost):
            await Client(pool, target_of("http://192.0.2.1/v1")).send()
        await pool.aclose()

    run(scenario())


def test_no_proxy_hosts_are_reached_directly(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        proxy = Proxy()
        async with Server(always(sized(b"hello"))) as server, Server(proxy.serve) as outer:
            egress = read_egress(outer.url, {"NO_PROXY": f"example.com,127.0.0.1:{server.port}"})
            pool = ConnectionPool(1, egress=egress)
            assert await Client(pool, target_of(f"{server.url}/v1")).body() == b"hello"
            await pool.aclose()
        assert proxy.heads == []

    run(scenario())


def test_server_behind_proxy_is_verified(run: Run, tmp_path: Path, authority: Authority) -> None:
    """A proxy that impersonates the server is refused, unless its CA is trusted."""

    async def scenario() -> None:
        stranger = server_side(Authority("a stranger"), tmp_path)
        async with through(Proxy(), tmp_path, authority, server_tls=stranger) as client:
            with pytest.raises(ConnectionLost) as caught:
                await client.send()
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    run(scenario())


def test_cancellation_ends_tunnel_handshake(run: Run, tmp_path: Path, authority: Authority) -> None:
    async def scenario() -> None:
        proxy = Proxy(b"")
        async with Server(proxy.serve) as outer:
            pool = ConnectionPool(1, egress=Egress(parse_proxy(outer.url)))
            client = Client(pool, target_of("https://server.example/v1"))
            sending = asyncio.create_task(client.send())
            await outer.connected.wait()
            await asyncio.sleep(0.05)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            async with asyncio.timeout(300):
                while len(outer._tasks):
                    await asyncio.sleep(0.01)
            await pool.aclose()

    run(scenario())


@pytest.mark.parametrize("proxied", [False, True], ids=["direct", "proxy"])
def test_client_certificate_is_sent_only_to_its_provider(
    run: Run, proxied: bool, tmp_path: Path, authority: Authority
) -> None:
    """A connection with a client certificate is never used by another provider at the same address."""
    certificate = ClientCertificate(*map(str, authority.issue(tmp_path, "client", client="the gateway")))

    async def scenario() -> None:
        ca = authority.write(tmp_path / "clients.pem")
        wants = server_side(authority, tmp_path, clients=ca)
        proxy = Proxy()
        async with Server(always(sized(b"hello")), wants) as server, Server(proxy.serve) as outer:
            egress = Egress(parse_proxy(outer.url)) if proxied else None
            pool = ConnectionPool(4, tls=TlsContexts(ca), egress=egress)
            known = Client(pool, target_of(f"{server.url}/v1", certificate))
            unknown = Client(pool, target_of(f"{server.url}/v1"))
            assert await known.body() == b"hello"
            with pytest.raises(TransportError):
                await unknown.body()
            assert await known.body() == b"hello"
            await pool.aclose()

    run(scenario())


def test_renewed_client_certificate_is_used(run: Run, tmp_path: Path, authority: Authority) -> None:
    """The file is replaced in place; with an invalid file the previous certificate stays in use."""
    old, old_key = authority.issue(tmp_path, "client")
    new, new_key = authority.issue(tmp_path, "client")

    async def scenario() -> None:
        contexts = TlsContexts()
        client = ClientCertificate(str(old), str(old_key))
        first = contexts.context(client)
        assert contexts.context(client) is first
        old.write_bytes(new.read_bytes())
        _touch(old, 10)
        with capture_logs() as lines:
            assert contexts.context(client) is first, "its key is not there yet"
        assert [line["event"] for line in lines] == ["provider_client_certificate_stale"]
        old_key.write_bytes(new_key.read_bytes())
        _touch(old_key, 10)
        assert contexts.context(client) is not first

    run(scenario())


def test_certificate_with_the_time_of_the_old_one_is_used(run: Run, tmp_path: Path, authority: Authority) -> None:
    """Tools that copy with times (`cp -p`, `rsync -t`, `tar`) may keep the time of the file that they replace."""
    old, old_key = authority.issue(tmp_path, "client")
    new, new_key = authority.issue(tmp_path, "client")

    async def scenario() -> None:
        contexts = TlsContexts()
        client = ClientCertificate(str(old), str(old_key))
        first = contexts.context(client)
        for replacement, replaced in ((new, old), (new_key, old_key)):
            before = replaced.stat()
            os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
            replacement.rename(replaced)
        assert contexts.context(client) is not first

    run(scenario())


def _touch(path: Path, seconds: float) -> None:
    at = path.stat().st_mtime + seconds
    os.utime(path, (at, at))
