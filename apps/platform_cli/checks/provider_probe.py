"""One cheap call to a provider, sent by the adapter that also sends requests: the same transport, proxy, CAs and
credential header."""

from collections.abc import Iterator

from platform_app.config import PlatformConfig, ProviderConfig, did_you_mean
from platform_app.config.model_names import WILDCARD
from platform_app.errors import PlatformError
from platform_app.llm.http.client import UnexpectedStatus
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.failures import provider_failure
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import ModelList
from platform_app.llm.providers.factory import make_adapter
from platform_app.readiness import Check

PROVIDER_TIMEOUT_SECONDS = 5.0
MAX_RESPONSE_BYTES = 8 * 1024 * 1024


async def probe_provider(
    name: str, provider: ProviderConfig, credential: str | None, pool: ConnectionPool
) -> tuple[Check, ModelList | None]:
    """Request the provider's list of models, and return it with the check. A server without such a list passes."""
    limits = ProviderLimits(PROVIDER_TIMEOUT_SECONDS, PROVIDER_TIMEOUT_SECONDS, MAX_RESPONSE_BYTES)
    what, where = f"provider {name}", provider.base_url
    try:
        found = await make_adapter(provider, pool, limits).probe(credential, PROVIDER_TIMEOUT_SECONDS)
    except PlatformError as error:
        return Check(what, False, True, _failure(where, error)), None
    if found is None:
        return Check(what, True, True, f"{where} responds, without a list of models"), None
    return Check(what, True, True, f"{where} responds" + (" and accepts the credential" if credential else "")), found


def model_checks(name: str, config: PlatformConfig, listed: ModelList) -> Iterator[Check]:
    """Yield a warning for each route whose model the provider does not list.

    A warning and no failure: providers accept aliases that they do not list. A listed name that continues the route's
    with a version or follows a prefix (`claude-haiku-4-5-20251001`, `models/gemini-2.0-flash`) counts as the same.
    """
    if not listed.complete:
        return
    for model, found in config.models.items():
        for route in found.routes:
            if WILDCARD in route.model:
                continue  # the names that it stands for are known only when clients request them
            if route.provider == name and not any(_is_same(route.model, other) for other in listed.names):
                similar = did_you_mean(route.model, listed.names)
                advice = f"did you mean '{similar}'?" if similar else "compare it with the provider's documents"
                detail = f"'{route.model}' is not among the {len(listed.names)} models of provider {name}; {advice}"
                yield Check(f"model {model}", False, False, detail)


def _is_same(wanted: str, listed: str) -> bool:
    return listed == wanted or listed.startswith((f"{wanted}-", f"{wanted}:")) or listed.endswith(f"/{wanted}")


def _failure(where: str, error: PlatformError) -> str:
    """Say what failed. No part of it is a secret."""
    cause = error.__cause__
    if cause is None:
        return f"no request was sent to {where}: {error.message}"
    if not isinstance(cause, UnexpectedStatus):
        return f"{where} does not respond: {provider_failure(cause)}"
    if cause.status in (401, 403):
        return f"{where} refuses the credential ({cause.status})"
    return f"{where} responds with {cause.status}"
