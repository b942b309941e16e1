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

_ANTHROPIC_MESSAGES = (
    "cache_control context_management diagnostics max_tokens messages metadata output_config output_format "
    "service_tier speed stop_sequences system temperature thinking tool_choice tools top_k top_p"
)
MESSAGES_FIELDS = frozenset(_ANTHROPIC_MESSAGES.split())
"""Anthropic's fields of Messages; see anthropic/request_fields.py."""

_STEERING = """
route routes router preset presets deploymentid numretries retries maxretries retrypolicy variant compoundcustom
provider providers apitype apiversion host proxy target targets backend backends tags tag priority deferred
inferencegeo auth authorization headers cookies token hftoken idtoken personaltoken jwt virtualkey subscriptionkey
orgid sslverify cert certificate clientcert
extrabody extraheaders extraquery extraparams extraargs vllmxargs userconfig drop dropparams additionaldropparams
allowedopenaiparams overrides config configid promptid promptvariables
datasources connectors connector websearch enablesearch speed cache caching cachedcontent chattemplate
plugins transforms mcpservers mcp guardrails
background batch previousresponseid conversation container assistantid threadid workspaceid userprofileid
mockresponse mocktoolcalls mocktimeout
"""
STEERING_FIELDS = frozenset(_STEERING.split())
"""Fields that choose another model, route or deployment, or another server, account or credential; that an upstream
unpacks into the request; that cost more than tokens (searches, remote tools and data, later responses); or that replace
the model's response or its prompt. The names are folded, see `folded`."""
_STEERING_PARTS = re.compile(
    "model|adapter|fallback|rout(?:e|ing)|provider|endpoint|deployment|upstream|loadbalanc|litellm|vertex|bedrock"
    "|apibase|baseurl|webhook|callback|proxy|bootstrap|kvtransfer|parallelrank"
    "|apikey|apitoken|accesskey|accesstoken|authtoken|bearertoken|sessiontoken|privatekey|credential|secret|password"
    "|tenant|organization|vectorstore|logits?processor|costper|websearch|codeinterpreter"
    "|^(?:lora|engine|agent|aws|azure|gcp|nvext|server|region|cluster|account|project(?:$|s|id|name)|search|http)"
    "|(?:lora|engine|agent|ur[il]s?|host|hostname|servers?|region|cluster)$"
)
"""Matches the kinds of such fields, whose names differ from server to server. Words that sampling parameters have too
(`token`, `cache`, `search`, `target`, `backend`) are matched as whole names, or at the beginning of one."""

_OWN_TOOLS = frozenset({"function", "custom"})
"""The types of tools that the client runs. Every other type runs at the provider."""
UNTYPED = "type"
"""Stands for the type of a tool that has none."""
USUAL_TIERS = (None, "auto", "default", "flex")
"""The values of service_tier at the listed price, or below it."""
MAX_NAME = 64
"""The characters that are shown of a name from a request."""


def folded(name: str) -> str:
    """Return a field's name as a lenient server may read it: Go ignores case, others accept camelCase for
    snake_case."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_FOLDED_KNOWN = frozenset(folded(name) for name in (*KNOWN_FIELDS, "model", "stream"))
_FOLDED_OTHERS = frozenset(map(folded, RESPONSES_FIELDS | MESSAGES_FIELDS))
_REFERENCES = (("moderation", "model"), ("prompt_cache_options", "comparison_response_id"))
"""Parts of fields that name another model or a stored response."""
_TOOL_FIELDS = frozenset({"type", "function", "custom", "name", "description", "parameters", "strict", "input_schema"})


def extra_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the fields that are not OpenAI's, in their order. Values of OpenAI's fields that have more effect than the
    field itself are added as `field.part`."""
    names = [name for name in body if name not in KNOWN_FIELDS]
    tier = body.get("service_tier")
    if tier is not None and tier not in USUAL_TIERS:
        names.append("service_tier")
    for tool in _list(body.get("tools")):
        kind = kind_of_tool(tool)
        if kind not in _OWN_TOOLS:
            names.append(f"tools.{kind[:MAX_NAME]}")
    return (*names, *references(body), *metadata_instructions(body))


def kind_of_tool(tool: object) -> str:
    """Return the type of a tool. Without a type it is what a lenient server may read as one: the name of another
    field, as in `{"googleSearch": {}}`; else UNTYPED."""
    if not isinstance(tool, Mapping):
        return UNTYPED
    others = () if tool.keys() <= _TOOL_FIELDS else [name for name in tool if name not in _TOOL_FIELDS]
    for name in others:
        if folded(name) == "type":  # a server that ignores case reads this one
            return str(name)
    kind = tool.get("type")
    if isinstance(kind, str):
        return kind
    if others:
        return str(others[0])
    return "function" if "type" not in tool and isinstance(tool.get("function"), Mapping) else UNTYPED


def steers(name: str) -> bool:
    """Return whether a field of `extra_fields` is refused unless it is allowed."""
    if "." in name or name in KNOWN_FIELDS:
        return True
    plain = folded(name)
    if plain in _FOLDED_OTHERS and name not in RESPONSES_FIELDS and name not in MESSAGES_FIELDS:
        return True
    return plain in STEERING_FIELDS or plain in _FOLDED_KNOWN or _STEERING_PARTS.search(plain) is not None


def references(body: Mapping[str, Any]) -> list[str]:
    """Return the parts of fields that name another model or a stored response, as `field.part`."""
    names = []
    for field, part in _REFERENCES:
        value = body.get(field)
        if isinstance(value, dict) and value.get(part) is not None:
            names.append(f"{field}.{part}")
    return names


def metadata_instructions(body: Mapping[str, Any]) -> list[str]:
    """Return the lists and objects in `metadata`. OpenAI allows only strings there; routers treat other values as
    instructions."""
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        return []
    return [f"metadata.{name[:MAX_NAME]}" for name, value in metadata.items() if isinstance(value, list | dict)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
