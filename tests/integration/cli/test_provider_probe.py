"""The one cheap call that `check` makes to a provider: what each answer means."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest

from apps.platform_cli.checks.provider_probe import PROBES, probe_provider
from apps.provider_simulator.server import ProviderSimulator
from platform_app.config import ProviderConfig
from platform_app.llm.http.transport.pool import ConnectionPool
from tests.support.providers.wires import WIRES, url_of
from tests.support.servers.ports import free_port

KEY = "sk-canary-2f6d81c0"
MODELS_OF = {"openai": "/v1/models", "azure": "/openai/models", "anthropic": "/anthropic/v1/models"}


@pytest.fixture
async def locked() -> AsyncIterator[ProviderSimulator]:
    """A provider that takes one key."""
    async with ProviderSimulator(api_key=KEY) as running:
        yield running


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(2)
    yield opened
    await opened.aclose()


def provider(base_url: str) -> ProviderConfig:
    return ProviderConfig(base_url=base_url, api_key_secret="KEY")


async def test_a_good_credential(locked: ProviderSimulator, pool: ConnectionPool) -> None:
    check = await probe_provider("sim", provider(locked.base_url), KEY, pool)
    assert (check.ok, check.name) == (True, "provider sim")
    assert check.detail.endswith("answers and takes the credential")


@pytest.mark.parametrize("credential", ["sk-other-canary", None])
async def test_a_bad_one_or_none(locked: ProviderSimulator, pool: ConnectionPool, credential: str | None) -> None:
    check = await probe_provider("sim", provider(locked.base_url), credential, pool)
    assert not check.ok
    assert check.detail.endswith("refuses the credential (401)")
    assert "canary" not in check.detail


async def test_a_server_without_a_list_of_models(locked: ProviderSimulator, pool: ConnectionPool) -> None:
    check = await probe_provider("sim", provider(locked.base_url + "/elsewhere"), KEY, pool)
    assert check.ok
    assert "without a list of models" in check.detail


async def test_nobody_there(pool: ConnectionPool) -> None:
    check = await probe_provider("sim", provider(f"http://127.0.0.1:{free_port()}/v1"), KEY, pool)
    assert not check.ok
    assert check.detail.endswith("does not answer (ConnectionRefusedError)")


@pytest.mark.parametrize("credential", ["sk-canary\nwith a line break", "sk-canary\x7f"])
async def test_a_credential_that_cannot_be_sent(
    locked: ProviderSimulator, pool: ConnectionPool, credential: str
) -> None:
    check = await probe_provider("sim", provider(locked.base_url), credential, pool)
    assert (check.ok, check.detail) == (False, "the credential has characters that a header cannot carry")


@pytest.mark.parametrize("wire", WIRES)
async def test_each_wire_format_asks_for_its_models(locked: ProviderSimulator, pool: ConnectionPool, wire: str) -> None:
    config = ProviderConfig.model_validate(
        {
            "wire_format": wire,
            "base_url": url_of(wire, locked),
            "api_key_secret": "KEY",
            "api_version": "2024-10-21" if wire == "azure" else None,
        }
    )
    good, bad = [await probe_provider("sim", config, key, pool) for key in (KEY, "sk-other-canary")]
    assert good.detail.endswith("answers and takes the credential")
    assert bad.detail.endswith("refuses the credential (401)")
    assert {record.path for record in locked.requests()} == {MODELS_OF[wire]}


def test_every_wire_format_has_a_probe() -> None:
    assert set(PROBES) == set(get_args(ProviderConfig.model_fields["wire_format"].annotation))
