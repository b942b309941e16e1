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
    # A model or its weights.
    "adapter_id", "lora", "lora_path", "LoraPath", "lora_request", "compound_custom", "engine_id", "agent_id",
    # A route or a server.
    "tags", "kv_transfer_params", "bootstrap_host", "bootstrap_port", "bootstrap_room", "data_parallel_rank", "nvext",
    "base_uri", "uri", "proxy_url", "http_proxy", "server", "backend", "upstream", "region_name", "target", "cluster",
    # An account or a credential.
    "organization_id", "project_id", "litellm_credential_name", "aws_access_key_id", "aws_secret_access_key",
    "vertex_credentials", "vertex_ai_project", "api_token", "access_token", "token", "hf_token", "client_secret",
    "tenant_id", "auth", "private_key", "orgId", "AccessToken",
    # A price, or content that the client did not send.
    "enable_search", "search_options", "search_mode", "input_cost_per_token", "output_cost_per_second", "speed",
    "Speed", "cached_content", "cache", "chat_template", "vector_store_ids", "custom_logit_processor",
    "logits_processors", "deferred", "priority", "enable_code_interpreter", "vllm_xargs",
    # Other spellings of Anthropic's fields.
    "System", "outputConfig", "Thinking",
]  # fmt: skip
HARMLESS = [
    "brand_new", "", "of_tomorrow",
    # Parameters of self-hosted servers and of other providers, which have words in common with steering fields.
    "top_k", "min_p", "top_a", "repetition_penalty", "length_penalty", "use_beam_search", "best_of", "stop_token_ids",
    "min_tokens", "ignore_eos", "skip_special_tokens", "add_special_tokens", "pad_token_id", "bad_words_token_ids",
    "allowed_token_ids", "return_tokens_as_token_ids", "return_token_ids", "ban_eos_token", "timings_per_token",
    "truncate_prompt_tokens", "prompt_logprobs", "guided_json", "guided_regex", "guided_decoding_backend",
    "structured_outputs", "chat_template_kwargs", "mm_processor_kwargs", "cache_salt", "cache_prompt",
    "prompt_cache_isolation_key", "mirostat_target", "typical_p", "n_predict", "regex", "ebnf", "separate_reasoning",
    "session_id", "request_id", "documents", "citation_options", "safe_prompt", "random_seed", "include_reasoning",
    "reasoning_format", "enable_thinking", "thinking_budget", "safety_settings", "continue_final_message", "echo",
    "exploration", "raw_output", "prediction_cost",
    # Other formats' documented fields.
    "thinking", "cache_control", "context_management", "diagnostics", "output_config", "output_format", "system",
    "stop_sequences", "max_output_tokens", "instructions", "max_tool_calls", "include", "reasoning", "text",
    "truncation", "prompt_cache_options", "access_programs", "background_options", "image", "moderation",
]  # fmt: skip


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
        ({"tools": [{"type": "function"}, {"type": "custom"}, {"function": {"name": "f"}}]}, []),
        ({"tools": [{"type": "function", "cache_control": {}, "function": {"name": "f"}}]}, []),
        ({"tools": [{"googleSearch": {}}, {"google_search": {}}]}, ["tools.googleSearch", "tools.google_search"]),
        ({"tools": [{"type": None, "web_search": {}}, {"type": 5}]}, ["tools.web_search", "tools.type"]),
        ({"tools": [{}, 5, {"type": None, "function": {}}]}, ["tools.type", "tools.type", "tools.type"]),
        ({"tools": [{"function": {"name": "f"}, "retrieval": {}}]}, ["tools.retrieval"]),
        ({"tools": [{"type": "function", "Type": "web_search"}]}, ["tools.Type"]),
        ({"prompt_cache_options": {"mode": "explicit"}}, ["prompt_cache_options"]),
        ({"moderation": {"model": "omni"}}, ["moderation", "moderation.model"]),
        ({"tools": [{"type": "function"}, {"type": "web_search"}, {"type": "mcp"}]}, ["tools.web_search", "tools.mcp"]),
        ({"tools": {"type": "mcp"}}, []),
        ({"metadata": {"a": "b", "n": 5}}, []),
        ({"metadata": {"tags": ["premium"], "fallbacks": {}}}, ["metadata.tags", "metadata.fallbacks"]),
    ],
)
def test_values_with_more_effect_are_extra(body: dict[str, Any], names: list[str]) -> None:
    assert list(extra_fields(body)) == names
    assert all(steers(name) or name in body for name in names)


def test_reference_to_stored_response_steers() -> None:
    """A provider of the Responses API gets the cache options of a chat."""
    assert steers(extra_fields({"prompt_cache_options": {"comparison_response_id": "r"}})[-1])


def test_untyped_tool_is_refused_with_a_remedy() -> None:
    with pytest.raises(InvalidRequest, match='a tool needs a type, which is "function"') as caught:
        served(Route("m", "p", "up")).require_fields(extra_fields({"messages": [], "tools": [{}]}))
    assert caught.value.param == "tools.type"


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
