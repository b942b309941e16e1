"""Every adapter requests its provider's list of models: with and without a credential, and from servers in trouble."""

import pytest

from platform_app.errors import ProviderAuthFailed, ProviderUnavailable
from platform_app.llm.http.client import UnexpectedStatus
from platform_app.llm.http.transport.errors import ConnectionLost
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelAdapter
from tests.support.providers.wires import KEY, adapter_for
from tests.support.servers.network.tcp import canned


async def test_probe_accepts_listing_with_credential(adapter: ModelAdapter) -> None:
    assert await adapter.probe(KEY, 30)


async def test_probe_without_credential_raises_auth_error(adapter: ModelAdapter) -> None:
    with pytest.raises(ProviderAuthFailed) as caught:
        await adapter.probe(None, 30)
    assert isinstance(caught.value.__cause__, UnexpectedStatus)
    assert caught.value.__cause__.status == 401


async def test_probe_of_server_without_model_list_is_false(pool: ConnectionPool, wire: str) -> None:
    async with canned(b"application/json", b"{}", status=b"404 Not Found") as server:
        assert not await adapter_for(wire, pool, server.url).probe(KEY, 30)


async def test_probe_of_busy_provider_raises_unavailable(pool: ConnectionPool, wire: str) -> None:
    async with canned(b"application/json", b"{}", status=b"503 Busy") as server:
        with pytest.raises(ProviderUnavailable) as caught:
            await adapter_for(wire, pool, server.url).probe(KEY, 30)
    assert isinstance(caught.value.__cause__, UnexpectedStatus)
    assert caught.value.__cause__.status == 503


async def test_probe_of_closed_port_names_connection_error(pool: ConnectionPool, wire: str) -> None:
    async with canned(b"application/json", b"{}") as server:
        url = server.url
    with pytest.raises(ProviderUnavailable) as caught:
        await adapter_for(wire, pool, url).probe(KEY, 30)
    assert isinstance(caught.value.__cause__, ConnectionLost)
