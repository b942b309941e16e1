"""Write the models that a key may use in the shape of Anthropic's /v1/models."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.llm.models.registry import ServedModel

_RELEASED = "1970-01-01T00:00:00Z"
"""The date that Anthropic's clients require. The epoch means that the date is not known."""


def anthropic_models(models: Sequence[ServedModel]) -> dict[str, Any]:
    """Return the list, as one page. Models for embeddings are left out: Anthropic's API has none."""
    listed = [anthropic_model(model) for model in models if model.metadata.get("kind") != "embedding"]
    return {
        "data": listed,
        "has_more": False,
        "first_id": listed[0]["id"] if listed else None,
        "last_id": listed[-1]["id"] if listed else None,
    }


def anthropic_model(model: ServedModel) -> dict[str, Any]:
    """Return one model, with its limits where they are known."""
    known: Mapping[str, Any] = model.metadata
    made: dict[str, Any] = {
        "type": "model", "id": model.shown_name, "display_name": model.shown_name, "created_at": _RELEASED,
        "lifecycle": "active",
    }  # fmt: skip
    for name, ours in (("max_input_tokens", "context_window"), ("max_tokens", "max_output_tokens")):
        if ours in known:
            made[name] = known[ours]
    return made
