"""The cheap call that `check` makes to each provider, and what it reports for each response."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from apps.platform_cli.checks.provider_probe import model_checks, probe_provider
from apps.provider_simulator.server import ProviderSimulator
from platform_app.config import PlatformConfig, ProviderConfig
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelList
from tests.support.providers.wires import WIRES, url_of
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tcp import Server, read_request

KEY = "sk-canary-2f6d81c0"
MODELS_OF = {
    "openai": "/v1/models",
    "openai-responses": "/v1/models",
    "azure": "/openai/models",
    "anthropic": "/anthropic/v1/models",
}


@pytest.fixture
async def locked() -> AsyncIterator[ProviderSimulator]:
    """A provider that accepts one key."""
    async with ProviderSimulator(api_key=KEY) as running:
        yield running


@pytest.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(2)
    yield opened
    await opened.aclose()


def provider(base_url: str) -> ProviderConfig:
    return ProviderConfig(base_url=base_url, api_key_secret="KEY")


async def test_probe_valid_credential_passes(locked: ProviderSimulator, pool: ConnectionPool) -> None:
    check, _ = await probe_provider("sim", provider(locked.base_url), KEY, pool)
    assert (check.ok, check.name) == (True, "provider sim")
    assert check.detail.endswith("responds and accepts the credential")


@pytest.mark.parametrize("credential", ["sk-other-canary", None])
async def test_probe_wrong_or_missing_credential_fails(
    locked: ProviderSimulator, pool: ConnectionPool, credential: str | None
) -> None:
    check, _ = await probe_provider("sim", provider(locked.base_url), credential, pool)
    assert not check.ok
    assert check.detail.endswith("refuses the credential (401)")
    assert "canary" not in check.detail


async def test_probe_provider_without_model_list_passes(locked: ProviderSimulator, pool: ConnectionPool) -> None:
    check, _ = await probe_provider("sim", provider(locked.base_url + "/elsewhere"), KEY, pool)
    assert check.ok
    assert "without a list of models" in check.detail


async def test_probe_unreachable_provider_fails(pool: ConnectionPool) -> None:
    check, _ = await probe_provider("sim", provider(f"http://127.0.0.1:{free_port()}/v1"), KEY, pool)
    assert not check.ok
    assert check.detail.endswith(
        "does not respond: it refuses connections; check that it runs, and that base_url names its host and its port"
    )


@pytest.mark.parametrize(
    ("base_url", "why"),
    [
        ("http://no-such-host.invalid/v1", "its host name is not found; check the host in base_url, and DNS"),
        ("https://127.0.0.1:{port}/v1", "it does not use TLS on this port (WRONG_VERSION_NUMBER); check the scheme"),
        ("http://127.0.0.1:{odd}/v1", "its response is not HTTP; check the scheme and the port in base_url"),
        ("http://127.0.0.1:{closing}/v1", "it closed the connection; check its log"),
    ],
)
async def test_probe_names_the_cause_and_the_next_step(
    locked: ProviderSimulator, pool: ConnectionPool, base_url: str, why: str
) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await read_request(reader)

    async def close(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with Server(greet) as odd, Server(close) as closing:
        ports = {"port": urlsplit(locked.base_url).port, "odd": odd.port, "closing": closing.port}
        check, _ = await probe_provider("sim", provider(base_url.format(**ports)), KEY, pool)
    assert not check.ok
    assert f"does not respond: {why}" in check.detail


@pytest.mark.parametrize("credential", ["sk-canary\nwith a line break", "sk-canary\x7f"])
async def test_probe_credential_unfit_for_header_fails(
    locked: ProviderSimulator, pool: ConnectionPool, credential: str
) -> None:
    check, _ = await probe_provider("sim", provider(locked.base_url), credential, pool)
    assert not check.ok
    assert check.detail.startswith(f"no request was sent to {locked.base_url}")
    assert "a character that headers cannot have" in check.detail
    assert "canary" not in check.detail
    assert locked.requests() == []


@pytest.mark.parametrize("wire", WIRES)
async def test_probe_each_wire_format_lists_its_models(
    locked: ProviderSimulator, pool: ConnectionPool, wire: str
) -> None:
    config = ProviderConfig.model_validate(
        {
            "wire_format": wire,
            "base_url": url_of(wire, locked),
            "api_key_secret": "KEY",
            "api_version": "2024-10-21" if wire == "azure" else None,
        }
    )
    (good, listed), (bad, _) = [await probe_provider("sim", config, key, pool) for key in (KEY, "sk-other-canary")]
    assert good.detail.endswith("responds and accepts the credential")
    assert bad.detail.endswith("refuses the credential (401)")
    assert {record.path for record in locked.requests()} == {MODELS_OF[wire]}
    assert listed is not None
    assert listed.complete is (wire != "azure")  # Azure's routes name deployments, which it does not list


LISTED = ModelList(frozenset({"gpt-4o-mini", "claude-haiku-4-5-20251001", "models/gemini-2.0-flash"}), complete=True)


@pytest.mark.parametrize(
    ("upstream", "advice"),
    [
        ("gpt-4o-mini", None),
        ("claude-haiku-4-5", None),
        ("gemini-2.0-flash", None),
        ("gpt-4o-mni", "did you mean 'gpt-4o-mini'?"),
        ("llama", "compare it with the provider's documents"),
    ],
)
def test_route_to_unlisted_model_is_a_warning(upstream: str, advice: str | None) -> None:
    config = PlatformConfig.model_validate(
        {
            "providers": {"sim": {"base_url": "http://x/v1"}},
            "models": {"public": {"routes": [{"provider": "sim", "model": upstream}]}},
        }
    )
    found = list(model_checks("sim", config, LISTED))
    assert [check.required for check in found] == ([] if advice is None else [False])
    assert all(f"'{upstream}' is not among the 3 models" in check.detail for check in found)
    assert all(check.detail.endswith(advice or "") for check in found)
    assert list(model_checks("sim", config, ModelList(LISTED.names))) == []
