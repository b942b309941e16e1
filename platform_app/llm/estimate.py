"""Stand-in until the limits land."""

from collections.abc import Mapping
from typing import Any


def estimate_prompt_tokens(body: Mapping[str, Any]) -> int:
    """See above."""
    return len(str(body.get("messages") or body.get("input") or "")) // 4


def requested_output_tokens(body: Mapping[str, Any], default: int) -> int:
    """See above."""
    return int(body.get("max_tokens") or default)


def estimate_text_tokens(characters: int) -> int:
    """See above."""
    return -(-characters // 4)
