"""The metadata of a model in /v1/models: kind, context window, price and capabilities, as far as they are known.

The config file has precedence, then the price list of the library `genai-prices`, then the table of Anthropic's models.
The metadata is built once for each version of the config file.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from genai_prices import Usage, calc_price

from platform_app.config import ModelConfig
from platform_app.llm.models.route import Route
from platform_app.llm.usage.pricing import FlatPrice, Price, TieredPrice

_EMBEDS = re.compile(r"embed|(?:^|[/._-])(?:bge|e5|gte|voyage)(?:$|[/._-])", re.IGNORECASE)
"""Matches the names of embedding models."""


def model_metadata(
    name: str, config: ModelConfig, routes: Sequence[Route], base_urls: Mapping[str, str]
) -> dict[str, Any]:
    """Return the metadata of a public model; `base_urls` are those of the providers."""
    kind = config.kind or _kind(name, routes)
    contexts = [_listed_context(route, base_urls[route.provider]) for route in routes]
    context = config.context_tokens or min((each for each in contexts if each), default=None)
    most = config.max_output_tokens or min(
        (takes.max_output_tokens for route in routes if (takes := route.capabilities) and takes.max_output_tokens),
        default=None,
    )
    known = {
        "kind": kind,
        "context_window": context,
        "max_output_tokens": most if kind == "chat" else None,
        "price": _price(routes[0].price),
        "capabilities": _capabilities(config, routes) if kind == "chat" else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def _kind(name: str, routes: Sequence[Route]) -> str:
    names = (name, *(route.upstream_model for route in routes))
    return "embedding" if any(_EMBEDS.search(each) for each in names) else "chat"


def _listed_context(route: Route, base_url: str) -> int | None:
    try:
        found = calc_price(Usage(input_tokens=1, output_tokens=1), route.upstream_model, provider_api_url=base_url)
    except LookupError:
        return None
    return found.model.context_window


def _capabilities(config: ModelConfig, routes: Sequence[Route]) -> list[str] | None:
    """Return the capabilities that every route has; None if those of one route are not known."""
    if config.features is not None:
        return list(config.features)
    found = {"tools", "images", "documents", "prompt_caching", "json_schema", "reasoning"}
    for route in routes:
        takes = route.capabilities
        if takes is None or "claude" not in route.upstream_model.lower():
            return None
        if not takes.structured_outputs:
            found.discard("json_schema")
        if not takes.efforts and not takes.thinking_budget:
            found.discard("reasoning")
    return sorted(found)


def _price(price: Price | None) -> dict[str, Any] | None:
    """Return the price in US dollars for a million tokens, as exact decimals; the first tier of a tiered price."""
    match price:
        case FlatPrice():
            rates = {
                "input_usd_per_million": _dollars(price.input),
                "output_usd_per_million": _dollars(price.output),
                "cached_input_usd_per_million": _dollars(price.cached_input),
            }
            if price.cache_write != price.input:
                rates["cache_write_usd_per_million"] = _dollars(price.cache_write)
            return rates
        case TieredPrice():
            tiers = {"input": price.model.input_mtok, "output": price.model.output_mtok}
            return {
                **{
                    f"{name}_usd_per_million": _dollars(_first(rate))
                    for name, rate in tiers.items()
                    if rate is not None
                },
                "tiered": True,
            }
        case _:
            return None


def _first(rate: Any) -> Decimal:
    return rate if isinstance(rate, Decimal) else rate.base


def _dollars(rate: float | Decimal) -> str:
    return f"{Decimal(str(rate)).normalize():f}"
