"""Decide which fields of an OpenAI request may reach a provider.

OpenAI's API grows, and compatible servers have their own sampling parameters, so unknown fields pass. But some fields
would change what the gateway has already decided: the model that the API key may use and that is paid for, the provider
and its address, the credential, and the price. A routing upstream would follow them. They are refused unless the config
file allows them for the provider (docs/adr/0018).
"""

import re
from collections.abc import Mapping
from typing import Any

_OPENAI_CHAT = (
    "audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens messages "
    "metadata modalities n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention "
    "reasoning_effort response_format safety_identifier seed service_tier stop store stream_options temperature "
    "tool_choice tools top_logprobs top_p user verbosity"
)
_OPENAI_EMBEDDINGS = "dimensions encoding_format input"
KNOWN_FIELDS = frozenset(f"{_OPENAI_CHAT} {_OPENAI_EMBEDDINGS}".split())
"""OpenAI's fields of chats and embeddings: only their values are checked. `model` and `stream` are read before."""

_OPENAI_RESPONSES = (
    "access_programs background background_options context_management conversation image include input instructions "
    "max_output_tokens max_tool_calls metadata moderation parallel_tool_calls previous_response_id prompt "
    "prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
RESPONSES_FIELDS = frozenset(_OPENAI_RESPONSES.split())
"""OpenAI's fields of Responses; see openai_responses/request_fields.py."""

_STEERING = """
engine route routes router preset presets deployment deploymentid numretries retries maxretries retrypolicy variant
provider providers apibase apikey apitype apiversion apiurl baseurl url host proxy endpoint endpoints azureadtoken
azuread region awsregionname vertexproject vertexlocation inferencegeo organization project authorization headers
cookies credentials
extrabody extraheaders extraquery extraparams userconfig drop dropparams additionaldropparams allowedopenaiparams
overrides config configid promptid promptvariables litellmparams
datasources websearchoptions websearch search searchparameters plugins transforms mcpservers mcp guardrails
background batch webhook callbackurl callbacks previousresponseid conversation container assistantid threadid
workspaceid userprofileid
mockresponse mocktoolcalls mocktimeout
"""
STEERING_FIELDS = frozenset(_STEERING.split())
"""Fields that choose another model, route or deployment, or another server, account or credential; that an upstream
unpacks into the request; that cost more than tokens (searches, remote tools and data, later responses); or that replace
the model's response. The names are folded, see `folded`."""
_STEERING_PARTS = re.compile("model|fallback|rout(?:e|ing)|provider|endpoint|deployment|apibase|apikey|baseurl|webhook")
"""Matches likely names of such fields that do not exist yet."""

_OWN_TOOLS = frozenset({"function", "custom"})
"""The types of tools that the client runs. Every other type runs at the provider."""
USUAL_TIERS = (None, "auto", "default", "flex")
"""The values of service_tier at the listed price, or below it."""
MAX_NAME = 64
"""The characters that are shown of a name from a request."""


def folded(name: str) -> str:
    """Return a field's name as a lenient server may read it: Go ignores case, others accept camelCase for
    snake_case."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_FOLDED_KNOWN = frozenset(folded(name) for name in (*KNOWN_FIELDS, "model", "stream"))
_FOLDED_RESPONSES = frozenset(map(folded, RESPONSES_FIELDS))


def extra_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that are not OpenAI's, in their order. Values of OpenAI's fields that have more effect than the
    field itself are added as `field.part`."""
    names = [name for name in body if name not in KNOWN_FIELDS]
    tier = body.get("service_tier")
    if tier is not None and tier not in USUAL_TIERS:
        names.append("service_tier")
    for tool in _list(body.get("tools")):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if isinstance(kind, str) and kind not in _OWN_TOOLS:
            names.append(f"tools.{kind[:MAX_NAME]}")
    return (*names, *metadata_instructions(body))


def steers(name: str) -> bool:
    """Return whether a field of `extra_fields` is refused unless it is allowed."""
    if "." in name or name in KNOWN_FIELDS:
        return True
    plain = folded(name)
    if plain in _FOLDED_RESPONSES and name not in RESPONSES_FIELDS:
        return True
    return plain in STEERING_FIELDS or plain in _FOLDED_KNOWN or _STEERING_PARTS.search(plain) is not None


def metadata_instructions(body: Mapping[str, Any]) -> list[str]:
    """Return the lists and objects in `metadata`. OpenAI allows only strings there; routers treat other values as
    instructions."""
    metadata = body.get("metadata")
    if not isinstance(metadata, Mapping):
        return []
    return [f"metadata.{name[:MAX_NAME]}" for name, value in metadata.items() if isinstance(value, list | dict)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
