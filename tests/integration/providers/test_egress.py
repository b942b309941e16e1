"""Egress through real proxies: CONNECT with credentials, private CAs and client certificates, and no secret leaks."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import GENEROUS, Platform
from tests.support.commands.command_line import run_command
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.failover.faulty_provider import TEXT, FaultyProvider
from tests.support.providers.failover.verdicts import Response, ask
from tests.support.servers.network.egress import (
    ENCODED,
    PASSWORD,
    USER,
    EgressProxyProcess,
    start_mitmproxy,
    start_tinyproxy,
)
from tests.support.servers.network.tls.certificates import Authority

MODELS = ("plain", "private", "mutual")


@dataclass(frozen=True)
class Providers:
    """Three providers: over HTTP, over TLS with a private CA, and with a required client certificate."""

    plain: FaultyProvider
    private: FaultyProvider
    mutual: FaultyProvider
    ca: Path
    client: tuple[Path, Path]

    def port_of(self, model: str) -> int:
        provider: FaultyProvider = getattr(self, model)
        return provider.port

    def catalog(self, path: Path) -> Path:
        certificate, key = map(str, self.client)
        return write_catalog(
            path,
            {
                "plain": {"base_url": self.plain.base_url},
                "private": {"base_url": self.private.base_url},
                "mutual": {
                    "base_url": self.mutual.base_url, "client_cert_file": certificate, "client_key_file": key,
                },
            },
            {model: [(model, "healthy")] for model in MODELS},
            rate_limits=GENEROUS,
            policies={"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}},
        )  # fmt: skip


@pytest.fixture(scope="module")
async def providers(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Providers]:
    """Run the three providers in this process."""
    directory = tmp_path_factory.mktemp("providers")
    authority = Authority()
    ca = authority.write(directory / "ca.pem")
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*authority.issue(directory, "127.0.0.1", minutes=60))
    wants = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ca))
    wants.load_cert_chain(*authority.issue(directory, "127.0.0.1", minutes=60))
    wants.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue(directory, "gateway.example", minutes=60, client="the gateway")
    async with FaultyProvider({}) as plain, FaultyProvider({}, server) as private, FaultyProvider({}, wants) as mutual:
        yield Providers(plain, private, mutual, ca, client)


@pytest.fixture(scope="module")
def tinyproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EgressProxyProcess]:
    """Run Debian's tinyproxy with credentials."""
    running = start_tinyproxy(tmp_path_factory.mktemp("tinyproxy"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def mitmproxy(tmp_path_factory: pytest.TempPathFactory, providers: Providers) -> Iterator[EgressProxyProcess]:
    """Run Debian's mitmproxy with credentials; it signs with its own CA."""
    running = start_mitmproxy(tmp_path_factory.mktemp("mitmproxy"), providers.ca)
    yield running
    running.stop()


@contextmanager
def gateway_with(platform: Platform, providers: Providers, directory: Path, **environment: str) -> Iterator[Gateway]:
    config = providers.catalog(directory / "platform.yaml")
    own = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": "plain", **environment}
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running
    shown = running.log_file.read_text()
    assert PASSWORD not in shown
    assert ENCODED not in shown


async def each(client: httpx.AsyncClient, gateway: Gateway, key: str) -> dict[str, Response]:
    """Return one response and one stream of each model; the streams are checked first."""
    found = {}
    for model in MODELS:
        found[model] = await ask(client, gateway, key, model, stream=False)
        stream = await ask(client, gateway, key, model, stream=True)
        assert (stream.text, stream.error_code) == (found[model].text, found[model].error_code)
    return found


@pytest.mark.parametrize("trust", ["PLATFORM_CA_BUNDLE", "SSL_CERT_FILE"])
async def test_calls_use_the_proxy(
    trust: str, platform: Platform, providers: Providers, tinyproxy: EgressProxyProcess, tmp_path: Path,
    client: httpx.AsyncClient, chat_key: str,
) -> None:  # fmt: skip
    """Plain HTTP, a private CA and a client certificate, as JSON and streams. Each uses one tunnel."""
    before = {model: tinyproxy.tunnels_to(providers.port_of(model)) for model in MODELS}
    environment = {"PLATFORM_EGRESS_PROXY": tinyproxy.url, trust: str(providers.ca)}
    with gateway_with(platform, providers, tmp_path, **environment) as gateway:
        found = await each(client, gateway, chat_key)
        assert {model: response.text for model, response in found.items()} == dict.fromkeys(MODELS, TEXT)
        metrics = gateway.metrics()
    for model in MODELS:
        assert tinyproxy.tunnels_to(providers.port_of(model)) > before[model], model
    assert PASSWORD not in metrics


async def test_https_proxy_and_no_proxy_are_read(
    platform: Platform, providers: Providers, tinyproxy: EgressProxyProcess, tmp_path: Path,
    client: httpx.AsyncClient, chat_key: str,
) -> None:  # fmt: skip
    """HTTPS_PROXY applies only to https:// URLs, and NO_PROXY names the hosts that are reached directly."""
    before = {model: tinyproxy.tunnels_to(providers.port_of(model)) for model in MODELS}
    environment = {
        "HTTPS_PROXY": tinyproxy.url,
        "NO_PROXY": f"example.com,127.0.0.1:{providers.port_of('mutual')}",
        "PLATFORM_CA_BUNDLE": str(providers.ca),
    }
    with gateway_with(platform, providers, tmp_path, **environment) as gateway:
        found = await each(client, gateway, chat_key)
    assert {model: response.text for model, response in found.items()} == dict.fromkeys(MODELS, TEXT)
    used = {model: tinyproxy.tunnels_to(providers.port_of(model)) > before[model] for model in MODELS}
    assert used == {"plain": False, "private": True, "mutual": False}


async def test_refused_proxy_credentials_are_operator_error(
    platform: Platform, providers: Providers, tinyproxy: EgressProxyProcess, tmp_path: Path,
    client: httpx.AsyncClient, chat_key: str,
) -> None:  # fmt: skip
    """503 provider_not_configured after one call; the log names the proxy, and credentials appear nowhere."""
    wrong = f"http://{USER}:{PASSWORD}-wrong@127.0.0.1:{tinyproxy.port}"
    with gateway_with(platform, providers, tmp_path, PLATFORM_EGRESS_PROXY=wrong) as gateway:
        body = {"model": "plain", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"Authorization": f"Bearer {chat_key}"}
        response = await client.post(f"{gateway.base_url}/v1/platform/chat", headers=headers, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "provider_not_configured")
        assert PASSWORD not in response.text + str(response.headers) + gateway.metrics()
    [line] = [line for line in gateway.log_lines() if line["event"] == "provider_connection_failed"]
    assert line["via"] == f"127.0.0.1:{tinyproxy.port}"
    # tinyproxy returns 401 instead of 407
    assert re.match(
        r"the proxy returned status 40[17]; see the proxy's log, and the credential in its URL", line["why"]
    )


@pytest.mark.parametrize("trust", ["PLATFORM_CA_BUNDLE", "SSL_CERT_FILE", None])
async def test_tls_inspecting_proxy_needs_ca_bundle(
    trust: str | None, platform: Platform, providers: Providers, mitmproxy: EgressProxyProcess, tmp_path: Path,
    client: httpx.AsyncClient, chat_key: str,
) -> None:  # fmt: skip
    """With its CA trusted, calls succeed; without it, nothing is sent, and the log has the reason."""
    assert mitmproxy.ca is not None
    environment = {"PLATFORM_EGRESS_PROXY": mitmproxy.url} | ({} if trust is None else {trust: str(mitmproxy.ca)})
    providers.private.reset()
    with gateway_with(platform, providers, tmp_path, **environment) as gateway:
        for stream in (False, True):
            response = await ask(client, gateway, chat_key, "private", stream=stream)
            assert response.text == ("" if trust is None else TEXT)
            assert response.error_code == ("provider_unavailable" if trust is None else None)
        if trust is not None:
            assert (await ask(client, gateway, chat_key, "plain", stream=True)).text == TEXT
    failed = [line for line in gateway.log_lines() if line["event"] == "provider_connection_failed"]
    assert len(providers.private.attempts) == (0 if trust is None else 2)
    assert all("certificate" in line["why"] for line in failed)
    assert bool(failed) is (trust is None)


def check(platform: Platform, providers: Providers, directory: Path, **environment: str) -> str:
    config = providers.catalog(directory / "platform.yaml")
    own = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": "plain", **environment}
    spool = {"PLATFORM_SPOOL_DIR": str(directory / "spool")}
    done = run_command({**platform.environment, **spool, **own}, "check")
    return done.stdout + done.stderr


def test_check_reports_proxy_failure(platform: Platform, providers: Providers, tmp_path: Path) -> None:
    """The proxy is named, without the part that may hold a password."""
    said = check(
        platform, providers, tmp_path,
        PLATFORM_EGRESS_PROXY=f"socks5://{USER}:{PASSWORD}@proxy:1080", PLATFORM_CA_BUNDLE=str(tmp_path / "gone.pem"),
    )  # fmt: skip
    assert "PLATFORM_EGRESS_PROXY: expected http://host:port" in said
    assert "PLATFORM_CA_BUNDLE: " in said
    assert PASSWORD not in said


async def test_check_probes_providers_through_proxy(
    platform: Platform, providers: Providers, tinyproxy: EgressProxyProcess, tmp_path: Path
) -> None:
    before = tinyproxy.tunnels_to(providers.port_of("private"))
    environment: dict[str, Any] = {"PLATFORM_EGRESS_PROXY": tinyproxy.url, "PLATFORM_CA_BUNDLE": str(providers.ca)}
    said = await asyncio.to_thread(check, platform, providers, tmp_path, **environment)
    assert f"127.0.0.1:{tinyproxy.port}" in said
    assert tinyproxy.tunnels_to(providers.port_of("private")) > before
    assert PASSWORD not in said
