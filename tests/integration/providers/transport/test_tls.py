"""TLS: which servers are trusted, and that the host name must be the certificate's."""

import asyncio
import ssl
from pathlib import Path

import pytest

from platform_app.llm.http.transport.errors import ConnectionLost, ConnectTimeout
from platform_app.llm.http.transport.target import target_of
from tests.integration.providers.transport.conftest import Run
from tests.support.providers.transport import Client, always, read, sized, talking
from tests.support.servers.network.tcp import silent
from tests.support.servers.network.tls.certificates import self_made

LARGE = b"x" * 3_000_000


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate, key, _ = self_made(tmp_path)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def trusting(server_tls: ssl.SSLContext, tmp_path: Path) -> ssl.SSLContext:
    """Return a context that trusts the server's CA."""
    return ssl.create_default_context(cafile=tmp_path / "ca.pem")


def test_trusted_server_is_accepted(run: Run, server_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with talking(always(sized(LARGE)), server_tls=server_tls, tls=trusting) as client:
            for _ in range(3):
                assert await read(await client.ask(LARGE)) == LARGE
            assert client.pool.made == 1

    run(scenario())


def test_closing_tls_response_closes_connection(run: Run, server_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with talking(always(sized(LARGE)), connections=1, server_tls=server_tls, tls=trusting) as client:
            for _ in range(3):
                (await client.ask()).close()
            assert await client.body() == LARGE

    run(scenario())


def test_untrusted_certificate_is_refused(run: Run, server_tls: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with talking(always(sized(b"hello")), connections=1, server_tls=server_tls) as client:
            for _ in range(2):
                with pytest.raises(ConnectionLost) as caught:
                    await client.send()
                assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    run(scenario())


def test_certificate_of_other_host_is_refused(run: Run, server_tls: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    async def scenario() -> None:
        async with talking(always(sized(b"hello")), server_tls=server_tls, tls=trusting) as client:
            other = Client(client.pool, target_of(f"https://localhost:{client.target.address.port}/"))
            with pytest.raises(ConnectionLost) as caught:
                await other.send()
            assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)

    run(scenario())


def test_server_without_tls_is_refused(run: Run) -> None:
    async def scenario() -> None:
        async with talking(always(sized(b"hello"))) as client:
            other = Client(client.pool, target_of(f"https://127.0.0.1:{client.target.address.port}/"))
            with pytest.raises((ConnectionLost, ConnectTimeout)):
                await other.send(connect_seconds=0.3)

    run(scenario())


def test_tls_handshake_times_out(run: Run) -> None:
    async def scenario() -> None:
        async with silent() as server, talking(always(b"")) as client:
            other = Client(client.pool, target_of(server.url.replace("http:", "https:")))
            with pytest.raises(ConnectTimeout):
                await other.send(connect_seconds=0.1)

    run(scenario())


def test_cancelled_tls_connect_frees_place(run: Run) -> None:
    async def scenario() -> None:
        async with silent() as server, talking(always(sized(b"hello")), connections=1) as client:
            other = Client(client.pool, target_of(server.url.replace("http:", "https:")))
            for _ in range(3):
                connecting = asyncio.ensure_future(other.send())
                await asyncio.sleep(0.02)
                connecting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connecting
            assert await client.body() == b"hello"

    run(scenario())
