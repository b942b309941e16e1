"""The fronts of deploy/ before two real gateways: streams, limits, addresses, disconnects, a draining instance."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.conftest import Platform
from tests.support.deploy.host.fronts import Front, has_ipv6, start_front
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tls.certificates import self_made

MAX_BODY_BYTES = 64 * 1024
CLAIMED = "203.0.113.66"
_SECONDS = 300.0
_REQUESTS = 12


@pytest.fixture(scope="module")
def gateways(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways that trust the front."""
    environment = {
        **platform.environment,
        "PLATFORM_TRUSTED_PROXIES": "127.0.0.1",
        "PLATFORM_MAX_BODY_BYTES": str(MAX_BODY_BYTES),
        "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "60",
        "PLATFORM_SHUTDOWN_GRACE_SECONDS": "1",
    }
    directory = tmp_path_factory.mktemp("fronted")
    with Gateway(environment, directory) as first, Gateway(environment, directory) as second:
        yield first, second


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def front(
    request: pytest.FixtureRequest, gateways: tuple[Gateway, Gateway], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Front]:
    """Each front of deploy/ in turn."""
    directory = tmp_path_factory.mktemp(request.param)
    certificate, key, _ = self_made(directory)
    ports = (gateways[0].port, gateways[1].port)
    running = start_front(request.param, directory, free_port(), ports, (certificate, key))
    yield running
    assert running.child.poll() is None, running.child.failure()
    running.child.stop()


async def test_front_streams_unbuffered_and_passes_disconnect_on(
    front: Front, gateways: tuple[Gateway, Gateway], chat_key: str
) -> None:
    """The provider sends two chunks and never another: they arrive, and the client's disconnect reaches the gateway."""
    request_id = f"{front.name}-hang"

    async with connected(front, chat_key) as client:
        body = {"model": "sim-stream-hang", "prompt": "one two three four five six", "stream": True}
        headers = {"x-request-id": request_id}
        async with client.stream("POST", "/v1/platform/chat", json=body, headers=headers) as response:
            assert response.status_code == 200
            async for line in response.aiter_lines():
                if line.startswith("event: delta"):
                    break

    access = await _access_line(gateways, request_id)
    assert (access["reason"], access["client_address"]) == ("client_closed", "127.0.0.1")


async def test_front_listens_on_ipv6(front: Front) -> None:
    """On a machine without IPv6 the fronts run with their IPv4 lines alone, so that there IPv4 is tried."""
    _, writer = await asyncio.open_connection("::1" if has_ipv6() else "127.0.0.1", front.port)
    writer.close()
    await writer.wait_closed()


async def test_front_leaves_refusals_to_the_gateway(front: Front, chat_key: str) -> None:
    """A body and a head that are too large get the gateway's error, with its code; a large allowed head passes."""
    async with connected(front, chat_key) as client:
        large = await client.post("/v1/platform/chat", content=b" " * (MAX_BODY_BYTES + 1))
        head = await client.get("/v1/meta", headers={"x-filler": "a" * 20_000})
        heads = {f"x-filler-{number}": "a" * 9_000 for number in range(4)}
        refused = await client.get("/v1/meta", headers=heads)

    assert (large.status_code, large.json()["error"]["code"]) == (413, "payload_too_large")
    assert head.status_code == 200
    assert refused.status_code == 431
    assert refused.headers["content-type"].startswith("application/json")


async def test_front_replaces_a_claimed_address(front: Front, gateways: tuple[Gateway, Gateway], chat_key: str) -> None:
    """A client behind the front cannot choose the address that is recorded."""
    request_id = f"{front.name}-claimed"

    async with connected(front, chat_key) as client:
        headers = {"x-request-id": request_id, "x-forwarded-for": CLAIMED}
        await client.post("/v1/platform/chat", json={"prompt": "hi"}, headers=headers)

    assert (await _access_line(gateways, request_id))["client_address"] == "127.0.0.1"


async def test_front_leaves_a_draining_instance(front: Front, gateways: tuple[Gateway, Gateway], chat_key: str) -> None:
    """While an instance refuses new requests, and after its end, each request gets a response of the other one."""
    _, leaving = gateways
    assert leaving.child is not None
    async with connected(front, chat_key) as client, httpx.AsyncClient(trust_env=False, timeout=_SECONDS) as direct:

        async def statuses() -> set[int]:
            requests = [client.post("/v1/platform/chat", json={"prompt": "hi"}) for _ in range(_REQUESTS)]
            return {response.status_code for response in await asyncio.gather(*requests)}

        leaving.child.send(signal.SIGTERM)
        while (await direct.get(f"{leaving.base_url}/readyz")).status_code == 200:
            await asyncio.sleep(0.01)
        while_draining = await statuses()
        leaving.child.send(signal.SIGTERM)  # the second one ends it
        await asyncio.to_thread(leaving.stop)
        after_its_end = await statuses()
    await asyncio.to_thread(leaving.start)

    assert (while_draining, after_its_end) == ({200}, {200})


@asynccontextmanager
async def connected(front: Front, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the front, which trusts any certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    headers = {"x-api-key": key}
    async with httpx.AsyncClient(
        base_url=front.url, verify=context, headers=headers, timeout=_SECONDS, trust_env=False
    ) as client:
        yield client


async def _access_line(gateways: tuple[Gateway, Gateway], request_id: str) -> dict[str, object]:
    """Return the access line of the gateway that handled the request."""
    deadline = asyncio.get_running_loop().time() + _SECONDS
    while asyncio.get_running_loop().time() < deadline:
        for gateway in gateways:
            for line in await asyncio.to_thread(gateway.log_lines):
                if line.get("event") == "request" and line.get("request_id") == request_id:
                    return line
        await asyncio.sleep(0.05)
    raise AssertionError(f"no access line for {request_id}")
