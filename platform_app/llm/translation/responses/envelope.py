"""The fields of a Response object that repeat its request, or describe the response as a whole."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platform_app.llm.usage.counts import TokenUsage
from platform_app.observability import ids

_REPEATED: Mapping[str, object] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "prompt_cache_retention": None,
    "safety_identifier": None,
    "service_tier": "default",
    "store": False,
    "temperature": 1.0,
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
"""Fields of the request and OpenAI's defaults, which the Response object states."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The members of one response other than its output."""

    request: Mapping[str, Any]
    """The client's request."""
    model: str
    """The public name."""
    id: str = field(default_factory=lambda: f"resp_{ids.trace_id()}")
    created_at: int = field(default_factory=lambda: int(time.time()))

    def item_id(self, prefix: str, index: int) -> str:
        """Return the id of the output item at this index."""
        return f"{prefix}_{self.id.removeprefix('resp_')}{index:02x}"

    def response(
        self,
        status: str,
        output: Sequence[Mapping[str, Any]] = (),
        usage: TokenUsage | None = None,
        incomplete: str | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Return the Response object.

        Args:
            status: in_progress, completed, incomplete or failed.
            output: the items.
            usage: the tokens, if they are known.
            incomplete: why the response is incomplete.
            error: why it failed.
        """
        request = self.request
        repeated = {
            name: default if (value := request.get(name)) is None else value for name, default in _REPEATED.items()
        }
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "status": status,
            "completed_at": int(time.time()) if status == "completed" else None,
            "error": error,
            "incomplete_details": None if incomplete is None else {"reason": incomplete},
            "model": self.model,
            "output": list(output),
            **repeated,
            "reasoning": {"effort": None, "summary": None, **_object(request.get("reasoning"))},
            "text": _text(_object(request.get("text"))),
            "usage": None if usage is None else usage_of(usage),
        }


def usage_of(usage: TokenUsage) -> dict[str, Any]:
    """Return the usage of a Response object."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }  # fmt: skip


def _text(given: Mapping[str, Any]) -> dict[str, Any]:
    return {**given, "format": given.get("format") or {"type": "text"}}


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
