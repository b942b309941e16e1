"""Write the models that a key may use in the shape of Anthropic's /v1/models."""

from collections.abc import Mapping, Sequence
from typing import Any

from platform_app.errors import InvalidRequest
from platform_app.llm.models.registry import ServedModel

_RELEASED = "1970-01-01T00:00:00Z"
"""The date that Anthropic's clients require. The epoch means that the date is not known."""
MAX_LIMIT = 1000
"""The largest page, as at Anthropic."""
_MAX_DIGITS = 9


def anthropic_models(models: Sequence[ServedModel], query: Mapping[str, str]) -> dict[str, Any]:
    """Return a page of the list; all of it without `limit`. Models for embeddings are left out: Anthropic's API has
    none.

    Raises:
        InvalidRequest: `limit`, `after_id` or `before_id` is not valid.
    """
    listed = [anthropic_model(model) for model in models if model.metadata.get("kind") != "embedding"]
    limit = _limit(query.get("limit"))
    after, before = (_index(listed, name, query.get(name)) for name in ("after_id", "before_id"))
    if after is not None and before is not None:
        raise _wrong("before_id", "may not be combined with after_id; send one of them")
    if before is not None:
        page = listed[:before] if limit is None else listed[max(0, before - limit) : before]
        has_more = len(page) < before
    else:
        rest = listed if after is None else listed[after + 1 :]
        page = rest[:limit]
        has_more = len(page) < len(rest)
    return {
        "data": page,
        "has_more": has_more,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
    }


def _limit(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS and 1 <= int(text) <= MAX_LIMIT):
        raise _wrong("limit", f"expected a whole number from 1 to {MAX_LIMIT}")
    return int(text)


def _index(listed: Sequence[Mapping[str, Any]], name: str, model_id: str | None) -> int | None:
    """Return where the model is that a page begins behind, or ends before."""
    if model_id is None:
        return None
    found = next((index for index, model in enumerate(listed) if model["id"] == model_id), None)
    if found is None:
        raise _wrong(name, "expected the id of a model in the list")
    return found


def _wrong(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {what}.", param=param)


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
