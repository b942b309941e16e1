"""Which fields of an OpenAI request may pass to a provider.

OpenAI's contract grows, and servers that speak it have sampling parameters of their own, so fields that are not known
here pass. But some name what the gateway has already decided: the model that the API key may use and that is paid for,
the provider and address that it is sent to, the credential, and the price. A routing upstream would follow them. Such
are refused unless the catalog allows them for the provider (docs/adr/0018).
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
"""OpenAI's own, of chats and embeddings: of these only values are looked at. `model` and `stream` are read before."""

_STEERING = """
engine route routes router preset presets deployment deploymentid numretries retries maxretries retrypolicy variant
provider providers apibase apikey apitype apiversion apiurl baseurl url host proxy endpoint endpoints azureadtoken
azuread region awsregionname vertexproject vertexlocation inferencegeo organization project authorization headers
cookies credentials
extrabody extraheaders extraquery extraparams userconfig drop dropparams additionaldropparams allowedopenaiparams
overrides config configid promptid promptvariables litellmparams
datasources websearchoptions websearch search searchparameters plugins transforms mcpservers mcp guardrails
background batch webhook callbackurl callbacks previousresponseid conversation container assistantid threadid
mockresponse mocktoolcalls mocktimeout
"""
STEERING_FIELDS = frozenset(_STEERING.split())
"""Another model, route or deployment; another server, account or credential; what an upstream unpacks into the
request; more than tokens (searches, tools and data of other places, responses that come later); no model's response.
Folded names, see `folded`."""
_STEERING_PARTS = re.compile("model|fallback|rout(?:e|ing)|provider|endpoint|deployment|apibase|apikey|baseurl|webhook")
"""What the name of such a field that is not written yet is likely to hold."""

_OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs. Every other type runs at the provider."""
_USUAL_TIERS = (None, "auto", "default", "flex")
"""Of service_tier: at the listed price, or below it."""
_MAX_NAME = 64


def folded(name: str) -> str:
    """A field's name as a lenient server may read it: Go ignores case, others take camelCase for snake_case."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


_FOLDED_KNOWN = frozenset(folded(name) for name in (*KNOWN_FIELDS, "model", "stream"))


def extra_fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The fields that are not OpenAI's, in their order; and of OpenAI's, as `field.part`, the values that reach further
    than the fields do."""
    names = [name for name in body if name not in KNOWN_FIELDS]
    tier = body.get("service_tier")
    if tier is not None and tier not in _USUAL_TIERS:
        names.append("service_tier")
    for tool in _list(body.get("tools")):
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if isinstance(kind, str) and kind not in _OWN_TOOLS:
            names.append(f"tools.{kind[:_MAX_NAME]}")
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping):  # OpenAI's holds texts; routers take lists and objects for instructions
        names += [f"metadata.{name[:_MAX_NAME]}" for name, value in metadata.items() if isinstance(value, list | dict)]
    return tuple(names)


def steers(name: str) -> bool:
    """Whether a field that `extra_fields` named is refused unless it is allowed."""
    if "." in name or name in KNOWN_FIELDS:
        return True
    plain = folded(name)
    return plain in STEERING_FIELDS or plain in _FOLDED_KNOWN or _STEERING_PARTS.search(plain) is not None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
