"""The fields that translations make, by their names in every provider format, and the client's names of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.formats import ApiFormat

_LIMITS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_SCHEMAS = ("response_format", "text.format", "output_config.format", "text")
_EFFORTS = ("reasoning_effort", "reasoning.effort", "output_config.effort", "thinking", "reasoning", "output_config")
_TURNS = ("messages", "input")
_SYSTEM = ("instructions", "system")
_SINGLE_CALL = ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use")
_STOPS = ("stop", "stop_sequences")
_VERBOSITY = ("verbosity", "text.verbosity")
_LOGPROBS = ("logprobs", "top_logprobs", "include")
_USER = ("user", "metadata.user_id", "safety_identifier")
_SAME = (_LIMITS, _SCHEMAS, _EFFORTS, _TURNS, _SYSTEM, _SINGLE_CALL, _STOPS, _VERBOSITY, _LOGPROBS, _USER)
"""Each tuple has the names of one field."""

_OWN: Mapping[ApiFormat, Sequence[Sequence[str]]] = {
    ApiFormat.CHAT: (
        ("max_completion_tokens", "max_tokens"), ("response_format",), ("reasoning_effort", "reasoning"), ("messages",),
        ("messages",), ("parallel_tool_calls",), ("stop",), ("verbosity",), ("logprobs", "top_logprobs"),
        ("user", "safety_identifier"),
    ),
    ApiFormat.RESPONSES: (
        ("max_output_tokens",), ("text.format",), ("reasoning.effort",), ("input",), ("instructions",),
        ("parallel_tool_calls",), ("stop",), ("text.verbosity",), ("include", "top_logprobs"),
        ("user", "safety_identifier"),
    ),
    ApiFormat.MESSAGES: (
        ("max_tokens",), ("output_config.format", "output_format"), ("output_config.effort", "thinking.budget_tokens"),
        ("messages",), ("system",), ("tool_choice.disable_parallel_tool_use",), ("stop_sequences",), ("verbosity",),
        ("logprobs",), ("metadata.user_id",),
    ),
}  # fmt: skip
"""The names in the client's format, in the order of `_SAME`. Of several, the request has one."""
_NAMES: Mapping[ApiFormat, Mapping[str, Sequence[str]]] = {
    client: {name: own for names, own in zip(_SAME, owns, strict=True) for name in names}
    for client, owns in _OWN.items()
}


def renamed(client: ApiFormat, name: str, request: Mapping[str, Any]) -> str | None:
    """Return the client's name of a field that has this name in another format; None if no translation renames it."""
    names = _NAMES[client].get(name)
    if names is None:
        return None
    return next((each for each in names if _has(request, each)), names[0])


def _has(request: Mapping[str, Any], name: str) -> bool:
    outer, _, inner = name.partition(".")
    value = request.get(outer)
    if not inner:
        return value is not None
    return isinstance(value, Mapping) and value.get(inner) is not None
