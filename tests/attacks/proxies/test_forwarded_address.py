"""The client's address in the records: from a trusted proxy's header, never from a trailer."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.attacks.corpus.build import CHUNKED, chat, chunked, prompt
from tests.attacks.corpus.case import Case, fill, probe
from tests.attacks.proxies.proxy import PROXIES
from tests.attacks.raw_http import Address, exchange
from tests.conftest import Platform
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port

CLAIMED = "6.6.6.6"
CASE = Case("forwarded", chat(chunked(prompt(), trailers=(f"X-Forwarded-For: {CLAIMED}",)), CHUNKED))


@pytest.fixture(scope="module")
def trusting(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that trusts proxies on this machine."""
    environment = {**platform.environment, "PLATFORM_TRUSTED_PROXIES": "127.0.0.1"}
    with Gateway(environment, tmp_path_factory.mktemp("trusting")) as running:
        yield running


@pytest.fixture(scope="module", params=["direct", "haproxy-forwardfor"])
def entrance(
    request: pytest.FixtureRequest, trusting: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Address]:
    """The gateway itself, or HAProxy that adds the client's address."""
    if request.param == "direct":
        yield ("127.0.0.1", trusting.port)
        return
    kind = next(kind for kind in PROXIES if kind.name == request.param)
    if kind.path is None:
        pytest.skip(f"{kind.program} is not installed")
    port = free_port()
    child = kind.start(tmp_path_factory.mktemp(kind.name), port, trusting.port)
    yield ("127.0.0.1", port)
    child.stop()


async def test_forwarded_address_in_trailer_is_not_recorded(
    entrance: Address, trusting: Gateway, chat_key: str
) -> None:
    """Behind `option forwardfor` a trailer must not be taken for one more header."""
    run = fill(CASE, chat_key)

    received = await asyncio.to_thread(exchange, entrance, [run.data + probe(run)])

    assert [response.status for response in received.responses] == [200, 200]
    line = await asyncio.to_thread(trusting.access_line, run.request_id("1"), 60.0)
    assert line["client_address"] == "127.0.0.1"
