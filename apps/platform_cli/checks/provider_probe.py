"""One cheap call to a provider, sent by the adapter that also sends requests: the same transport, proxy, CAs and
credential header."""

import ssl

from platform_app.config import ProviderConfig
from platform_app.errors import PlatformError
from platform_app.llm.http.client import UnexpectedStatus
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.errors import ProxyRefused
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.providers.factory import make_adapter
from platform_app.readiness import Check

PROVIDER_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 65_536


async def probe_provider(name: str, provider: ProviderConfig, credential: str | None, pool: ConnectionPool) -> Check:
    """Request the provider's list of models, whose content is not read. A server without such a list passes."""
    limits = ProviderLimits(PROVIDER_TIMEOUT_SECONDS, PROVIDER_TIMEOUT_SECONDS, MAX_RESPONSE_BYTES)
    what, where = f"provider {name}", provider.base_url
    try:
        lists_models = await make_adapter(provider, pool, limits).probe(credential, PROVIDER_TIMEOUT_SECONDS)
    except PlatformError as error:
        return Check(what, False, True, _failure(where, error))
    if not lists_models:
        return Check(what, True, True, f"{where} responds, without a list of models")
    return Check(what, True, True, f"{where} responds" + (" and accepts the credential" if credential else ""))


def _failure(where: str, error: PlatformError) -> str:
    """Say what failed. No part of it is a secret."""
    cause = error.__cause__
    if cause is None:
        return f"no request was sent to {where}: {error.message}"
    if not isinstance(cause, UnexpectedStatus):
        return f"{where} does not respond ({_why(cause)})"
    if cause.status in (401, 403):
        return f"{where} refuses the credential ({cause.status})"
    return f"{where} responds with {cause.status}"


def _why(cause: BaseException) -> str:
    if isinstance(cause, ProxyRefused):
        return str(cause)
    origin = cause.__cause__
    if isinstance(origin, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {origin.verify_message}"
    return type(origin or cause).__name__
