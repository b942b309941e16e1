"""Aliases and wildcards from the config file to a served model."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from platform_app.config import PlatformConfig
from platform_app.errors import ModelNotFound
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.models import registry as registry_module
from platform_app.llm.models.builder import ModelBuilder
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.registry import ModelRegistry
from platform_app.llm.requests import AttemptLog, ModelCall, UpstreamCall
from platform_app.llm.responses import ModelResponse
from platform_app.observability.context import RequestContext
from platform_app.observability.request.metrics import count_request
from platform_app.observability.tracing.trace_context import continue_trace
from tests.support.ledger.database import settings_for
from tests.support.providers.policy_chains import FixedCredentials

SECTIONS: dict[str, Any] = {
    "providers": {
        "openai": {"base_url": "https://api.openai.com/v1", "api_key_secret": "OPENAI"},
        "claude": {"wire_format": "anthropic", "base_url": "https://api.anthropic.com", "api_key_secret": "CLAUDE"},
    },
    "models": {
        "gpt-4o": {"routes": [{"provider": "openai", "model": "gpt-4o"}], "aliases": ["fast"]},
        "gpt-*": {
            "routes": [
                {"provider": "openai", "model": "gpt-*", "weight": 1},
                {"provider": "openai", "model": "ft:gpt-*", "weight": 1},
            ]
        },
        "anthropic/*": {"routes": [{"provider": "claude", "model": "*"}]},
    },
}


@pytest.fixture
def builder() -> ModelBuilder:
    return ModelBuilder(ConnectionPool(1), settings_for("postgresql://u@127.0.0.1/d"), FixedCredentials())


@pytest.fixture
def models(builder: ModelBuilder) -> ModelRegistry:
    return ModelRegistry(builder.build(PlatformConfig.model_validate(SECTIONS)), "fast")


def test_alias_is_the_model(models: ModelRegistry) -> None:
    assert models.find("fast") is models.find("gpt-4o") is models.find(None)
    assert models.find("fast").metadata["aliases"] == ["fast"]


def test_wildcard_makes_the_requested_model(models: ModelRegistry) -> None:
    found = models.find("gpt-4o-mini")
    assert (found.name, found.requested, found.shown_name) == ("gpt-*", "gpt-4o-mini", "gpt-4o-mini")
    assert [route.upstream_model for route in found.routes] == ["gpt-4o-mini", "ft:gpt-4o-mini"]
    assert [(route.public_model, route.label) for route in found.routes] == [("gpt-*", "gpt-*"), ("gpt-*", "ft:gpt-*")]
    assert found.routes[0].price == models.find("gpt-4o-mini").routes[0].price is not None
    assert models.find("gpt-4o-mini") is found


def test_wildcard_passes_the_matched_part(models: ModelRegistry) -> None:
    [route] = models.find("anthropic/claude-opus-4-1").routes
    assert (route.upstream_model, route.label) == ("claude-opus-4-1", "*")
    assert route.price is not None


def test_unknown_price_of_a_concrete_name_is_unpriced(models: ModelRegistry) -> None:
    assert "gpt-nobody-knows" in (models.find("gpt-nobody-knows").unpriced or "")


@pytest.mark.parametrize("name", ["gpt-*", "gpt-", "claude", "gpt-4 o", "gpt-fbp_live_abcdefghijkl_secret", "*"])
def test_pattern_and_names_that_match_nothing_do_not_exist(models: ModelRegistry, name: str) -> None:
    """A name that holds a key would be sent to the provider, and recorded."""
    with pytest.raises(ModelNotFound):
        models.find(name)


def test_concrete_models_are_bounded_and_share_breakers(builder: ModelBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "MAX_CONCRETE", 3)
    models = ModelRegistry(builder.build(PlatformConfig.model_validate(SECTIONS)), "fast")
    breakers = len(builder._state._breakers)
    for number in range(20):
        models.find(f"gpt-{number}")
    assert len(models._concrete) == 3
    assert len(builder._state._breakers) == breakers == 4


@pytest.mark.parametrize(
    ("allowed", "name", "may"),
    [
        (None, "gpt-5", True),
        ({"gpt-*"}, "gpt-5", True),
        ({"gpt-5"}, "gpt-5", True),
        ({"gpt-5"}, "gpt-5-pro", False),
        ({"gpt-*"}, "gpt-4o", False),
        ({"fast"}, "gpt-4o", True),
        ({"gpt-4o"}, "fast", True),
        (set(), "gpt-5", False),
    ],
)
def test_key_may_use_wildcard_concrete_name_or_alias(
    models: ModelRegistry, allowed: set[str] | None, name: str, may: bool
) -> None:
    """A wildcard does not allow a model that has its own entry."""
    assert models.find(name).is_allowed(allowed) is may


def test_list_has_no_patterns_but_the_concrete_names_of_the_key(models: ModelRegistry) -> None:
    assert [model.shown_name for model in models.visible(None)] == ["gpt-4o"]
    shown = [model.shown_name for model in models.visible({"gpt-5", "fast", "gpt-*", "gone"})]
    assert shown == ["gpt-4o", "gpt-5"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"gpt-4o": {"aliases": ["gpt-*"]}}, "pattern"),
        ({"gpt-4o": {"aliases": ["x", "x"]}}, "'x' is an alias of 'gpt-4o' already"),
        ({"other": {"aliases": ["gpt-4o"]}}, "'gpt-4o' is the name of a model"),
        ({"other": {"aliases": ["fast"]}}, "'fast' is an alias of"),
        ({"other": {"routes": [{"provider": "openai", "model": "gpt-*"}]}}, "has a *"),
        ({"a*b*": {}}, "pattern"),
    ],
)
def test_ambiguous_names_are_refused(changes: dict[str, Any], problem: str) -> None:
    base = {"routes": [{"provider": "openai", "model": "m"}]}
    models = SECTIONS["models"] | {
        name: {**SECTIONS["models"].get(name, base), **change} for name, change in changes.items()
    }
    with pytest.raises(ValueError, match=problem.replace("*", r"\*")):
        PlatformConfig.model_validate(SECTIONS | {"models": models})


@pytest.mark.parametrize(("counted", "name"), [("fast", "gpt-4o"), ("gpt-5", "gpt-\\*")])
def test_limit_rule_names_the_model_that_is_counted(counted: str, name: str) -> None:
    rule = {"name": "r", "scope": "key", "limit": 1, "window_seconds": 60, "models": [counted]}
    with pytest.raises(ValueError, match=f"'{counted}' is counted as the model '{name}'"):
        PlatformConfig.model_validate(SECTIONS | {"rate_limits": {"rules": [rule]}})
    PlatformConfig.model_validate(SECTIONS | {"rate_limits": {"rules": [rule | {"models": ["gpt-*"]}]}})


@pytest.mark.parametrize(
    ("wanted", "allowed", "similar"),
    [
        ("gtp-4o", None, "gpt-4o"),
        ("fastt", None, "fast"),
        ("fastt", {"gpt-4o"}, "fast"),
        ("fastt", {"gpt-*"}, None),
        ("fastt", set(), None),
        ("ogpt-5", {"gpt-5"}, "gpt-5"),
        ("claude", None, None),
    ],
)
def test_unknown_model_suggests_what_the_key_may_use(
    models: ModelRegistry, wanted: str, allowed: set[str] | None, similar: str | None
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        models.find(wanted, allowed)
    advice = f"did you mean '{similar}'?" if similar else "exist."
    assert advice in caught.value.message


class _Adapter:
    async def send(self, call: UpstreamCall, credential: str | None) -> ModelResponse:
        return ModelResponse(b"{}", {"choices": [{"message": {}}]})

    async def probe(self, credential: str | None, timeout_seconds: float) -> None:
        raise NotImplementedError


async def test_many_concrete_names_add_no_series(models: ModelRegistry) -> None:
    """Names that clients choose are no label values: all concrete names count as their wildcard."""

    async def request(name: str) -> None:
        found = models.find(name)
        context = RequestContext("id", continue_trace(None), "POST", "192.0.2.1", 0.0, model=found.name)
        call = ModelCall({"messages": []}, 1e12, attempt_log=AttemptLog(record=context.record))
        await ProviderRoute(found.routes[0], _Adapter(), FixedCredentials()).send(call)
        count_request(context, 200, 1.0, 0.001)

    def series() -> int:
        return sum(len(metric.samples) for metric in REGISTRY.collect())

    await request("gpt-first")
    before = series()
    for number in range(2000):
        await request(f"gpt-{number}")
    assert series() == before
