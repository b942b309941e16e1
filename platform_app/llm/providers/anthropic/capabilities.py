"""What each of Anthropic's models supports. A route's `capabilities` in the config file override it.

Sources: https://platform.claude.com/docs/en/about-claude/models/overview and …/build-with-claude/effort. Models that
are not in the table, such as newer ones, support everything: if the provider refuses a field, its error names it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from platform_app.config import CapabilitiesConfig

EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""Levels of `output_config.effort`, the lowest first."""


@dataclass(frozen=True, slots=True)
class ModelCapabilities:
    """What a model supports of a request."""

    efforts: Sequence[str] = EFFORTS
    """The supported levels of EFFORTS, in their order; empty if the model has no effort parameter."""
    thinking_budget: bool = False
    """Whether the model has no effort parameter, but a thinking budget in tokens."""
    structured_outputs: bool = True
    """Whether the model accepts a JSON Schema for its response."""
    max_output_tokens: int | None = None
    """The maximum of `max_tokens`; None if it is not known."""


def _old(most: int, *, thinking: bool = False, structured: bool = False) -> ModelCapabilities:
    return ModelCapabilities((), thinking, structured, most)


_TABLE: Sequence[tuple[re.Pattern[str], ModelCapabilities]] = [
    (re.compile(pattern), capabilities)
    for pattern, capabilities in (
        (r"claude-(?:instant|v?[12])(?![0-9])", _old(4096)),
        (r"claude-3-(?:haiku|sonnet|opus)", _old(4096)),
        (r"claude-3[-.]5-", _old(8192)),
        (r"claude-3[-.]7-", _old(64_000, thinking=True)),
        (r"claude-(?:opus-4[-.]1(?![0-9])|4[-.]1-opus)", _old(32_000, thinking=True, structured=True)),
        (r"claude-(?:(?:sonnet|haiku)-4[-.]5(?![0-9])|4[-.]5-(?:sonnet|haiku))",
         _old(64_000, thinking=True, structured=True)),
        (r"claude-(?:opus-4[-.]5(?![0-9])|4[-.]5-opus)",
         ModelCapabilities(("low", "medium", "high"), max_output_tokens=64_000)),
        (r"claude-(?:(?:opus|sonnet)-4[-.]6(?![0-9])|4[-.]6-(?:opus|sonnet))",
         ModelCapabilities(("low", "medium", "high", "max"))),
        (r"claude-(?:opus-4(?=$|-0|[-@][0-9]{6}|-latest|[:@])|4-opus)", _old(32_000, thinking=True)),
        (r"claude-(?:sonnet-4(?=$|-0|[-@][0-9]{6}|-latest|[:@])|4-sonnet)", _old(64_000, thinking=True)),
    )
]  # fmt: skip
_UNKNOWN = ModelCapabilities()


@lru_cache(512)
def known_capabilities(model: str) -> ModelCapabilities:
    """Return the capabilities of a model by its name at the provider, with or without a date, region or version."""
    name = model.lower()
    return next((capabilities for pattern, capabilities in _TABLE if pattern.search(name)), _UNKNOWN)


def capabilities_of(model: str, override: CapabilitiesConfig | None) -> ModelCapabilities:
    """Return the capabilities of a route: the table's, overridden by the config file."""
    known = known_capabilities(model)
    if override is None:
        return known
    efforts = override.efforts
    return replace(
        known,
        efforts=known.efforts if efforts is None else tuple(level for level in EFFORTS if level in efforts),
        **override.model_dump(exclude_none=True, exclude={"efforts"}),
    )
