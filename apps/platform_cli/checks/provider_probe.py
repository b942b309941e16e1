"""One cheap call to a provider, to see whether it answers and takes our credential."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from platform_app.config import ProviderConfig
from platform_app.llm.http.transport.errors import ProxyRefused, TransportError
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.http.transport.target import header_lines, request_head, target_of
from platform_app.llm.providers.anthropic.adapter import DEFAULT_VERSION
from platform_app.llm.providers.factory import client_certificate
from platform_app.readiness import Check

PROVIDER_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A GET that costs nothing at the provider and needs the credential."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


def _openai(provider: ProviderConfig, credential: str | None) -> ProbeRequest:
    headers = {"Authorization": f"Bearer {credential}"} if credential else {}
    return ProbeRequest(f"{provider.base_url}/models", headers)


def _azure(provider: ProviderConfig, credential: str | None) -> ProbeRequest:
    headers = {"api-key": credential} if credential else {}
    return ProbeRequest(f"{provider.base_url}/openai/models?api-version={provider.api_version}", headers)


def _anthropic(provider: ProviderConfig, credential: str | None) -> ProbeRequest:
    headers = {"anthropic-version": provider.api_version or DEFAULT_VERSION}
    if credential:
        headers["x-api-key"] = credential
    return ProbeRequest(f"{provider.base_url}/v1/models", headers)


PROBES: Mapping[str, Callable[[ProviderConfig, str | None], ProbeRequest]] = {
    "openai": _openai,
    "azure": _azure,
    "anthropic": _anthropic,
}
"""By wire format: the list of models, as that format asks for it. A new format adds its line here."""


async def probe_provider(name: str, provider: ProviderConfig, credential: str | None, pool: ConnectionPool) -> Check:
    """Ask for the list of models, the way that the gateway's calls go; what it says is not looked at. Not every
    compatible server has one: 404 is fine."""
    what, where = f"provider {name}", provider.base_url
    request = PROBES[provider.wire_format](provider, credential)
    target = target_of(request.url, client_certificate(provider))
    until = asyncio.get_running_loop().time() + PROVIDER_TIMEOUT_SECONDS
    try:
        head = request_head(b"GET", target, header_lines(request.headers), None)
        exchange = await pool.send(target.address, head, b"", until)
        try:
            await exchange.head(until)
        finally:
            exchange.close()
    except ValueError:
        return Check(what, False, True, "the credential has characters that a header cannot carry")
    except (TransportError, TimeoutError) as error:
        return Check(what, False, True, f"{where} does not answer ({_why(error)})")
    status = exchange.status
    if status in (401, 403):
        return Check(what, False, True, f"{where} refuses the credential ({status})")
    if status == 404:
        return Check(what, True, True, f"{where} answers, without a list of models")
    if not 200 <= status < 300:
        return Check(what, False, True, f"{where} answers {status}")
    return Check(what, True, True, f"{where} answers" + (" and takes the credential" if credential else ""))


def _why(error: Exception) -> str:
    """In a few words, of which none is a secret."""
    if isinstance(error, ProxyRefused):
        return str(error)
    cause = error.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message}"
    return type(cause or error).__name__
