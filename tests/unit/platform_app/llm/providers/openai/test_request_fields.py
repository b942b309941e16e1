"""Request fields that would change what the gateway has decided."""

from typing import Any

import pytest

from platform_app.errors import InvalidRequest
from platform_app.llm.models.registry import ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.providers.openai.request_fields import KNOWN_FIELDS, extra_fields, steers
from tests.support.fakes.core import FakeUpstream

STEERING = [
    "models", "fallbacks", "route", "provider", "api_base", "base_url", "api_key", "custom_llm_provider",
    "deployment_id", "data_sources", "plugins", "transforms", "extra_body", "extra_headers", "extra_query",
    "organization", "user_config", "model_list", "num_retries", "web_search_options", "background", "preset", "router",
    "engine", "inference_geo", "mock_response", "mcp_servers", "api_version", "litellm_params", "region",
    # The same to a lenient server.
    "Models", "MODELS", "apiBase", "API-BASE", "dataSources", "\u212aey_provider", "Model", "MODEL", "model ",
    "\u017ftream", "maxTokens", "Max_Completion_Tokens", "N",
    # Of the same kind, but on no list.
    "fallback_models", "context_window_fallbacks", "model_group_alias", "preferred_provider", "default_route",
    "x_endpoint", "routing_strategy", "azure_deployment", "my_api_key",
]  # fmt: skip
HARMLESS = [
    "top_k",
    "min_p",
    "repetition_penalty",
    "guided_json",
    "brand_new",
    "thinking",
    "cache_control",
    "",
    "of_tomorrow",
]


@pytest.mark.parametrize("name", STEERING)
def test_steering_field_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        served(Route("m", "p", "up")).require_fields(extra_fields({"messages": [], name: None}))
    assert caught.value.param == name
    assert caught.value.message.startswith(f"{name}: ")


@pytest.mark.parametrize("name", HARMLESS)
def test_unknown_field_passes(name: str) -> None:
    assert not steers(name)


def test_openai_fields_are_not_extra() -> None:
    assert extra_fields(dict.fromkeys(KNOWN_FIELDS)) == ()


@pytest.mark.parametrize(
    ("body", "names"),
    [
        ({"service_tier": "priority"}, ["service_tier"]),
        ({"service_tier": ["flex"]}, ["service_tier"]),
        ({"service_tier": "flex"}, []),
        ({"service_tier": "auto"}, []),
        ({"tools": [{"type": "function"}, {"type": "custom"}, {}, 5]}, []),
        ({"tools": [{"type": "function"}, {"type": "web_search"}, {"type": "mcp"}]}, ["tools.web_search", "tools.mcp"]),
        ({"tools": {"type": "mcp"}}, []),
        ({"metadata": {"a": "b", "n": 5}}, []),
        ({"metadata": {"tags": ["premium"], "fallbacks": {}}}, ["metadata.tags", "metadata.fallbacks"]),
    ],
)
def test_values_with_more_effect_are_extra(body: dict[str, Any], names: list[str]) -> None:
    assert list(extra_fields(body)) == names
    assert all(map(steers, names))


def served(*routes: Route) -> ServedModel:
    return ServedModel("m", routes, FakeUpstream(routes[0]))


def test_allow_fields_applies_by_provider() -> None:
    open_route = Route("m", "p", "up", allow_fields=frozenset({"models", "tools.web_search"}))
    served(open_route).require_fields(["models", "tools.web_search", "top_k"])
    with pytest.raises(InvalidRequest):
        served(open_route).require_fields(["fallbacks"])
    with pytest.raises(InvalidRequest):  # any route may serve the request
        served(open_route, Route("m", "q", "up")).require_fields(["models"])


def test_only_known_fields_refuses_others() -> None:
    strict = Route("m", "p", "up", allow_fields=frozenset({"top_k"}), only_known_fields=True)
    served(strict).require_fields(["top_k"])
    with pytest.raises(InvalidRequest) as caught:
        served(strict).require_fields(["min_p"])
    assert caught.value.param == "min_p"


def test_long_name_is_truncated_in_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        served(Route("m", "p", "up")).require_fields(["model" * 10_000])
    assert len(caught.value.message) < 400
