"""Encrypted reasoning, which a model needs in the next request if its responses are not stored.

OpenAI returns it only if `include` names it, and models that do not reason refuse that. It refuses reasoning that it
did not encrypt, so what another provider reasoned (translation/carried.py) is left out.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from platform_app.llm.translation.carried import is_carried

ENCRYPTED = "reasoning.encrypted_content"
_REASONING_MODEL = re.compile(
    r"(?:^|[/:.])(?:o[1-9](?![0-9a-z])|gpt-(?:[5-9]|[1-9][0-9])(?!.*chat)|codex)", re.IGNORECASE
)


def reasons(model: str, reasoning: object) -> bool:
    """Return whether a model reasons on a request with this `reasoning` field: the effort says so, else the name."""
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else None
    if effort is not None:
        return bool(effort != "none")
    return _is_reasoning_model(model)


@lru_cache(1024)
def _is_reasoning_model(model: str) -> bool:
    return _REASONING_MODEL.search(model) is not None


def stateless(model: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the client's Responses request, which the provider must not store, so that its reasoning can be sent
    back. A request that asks to be stored is returned as it is."""
    if body.get("store") is True:
        return body
    sent = {**body, "store": False}
    include = body.get("include") or []
    if ENCRYPTED not in include and reasons(model, body.get("reasoning")):
        sent["include"] = [*include, ENCRYPTED]
    return sent


def own_reasoning(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the client's Responses request without the reasoning items that carry another provider's reasoning, and
    without references to stored reasoning in a stateless request."""
    items = body.get("input")
    if not isinstance(items, list) or not any(_is_reasoning(item) for item in items):
        return body
    stored = body.get("store") is True or body.get("previous_response_id") is not None
    made = [_own(item, index, stored=stored) for index, item in enumerate(items)]
    return {**body, "input": [item for item in made if item is not None]}


def _own(item: Any, index: int, *, stored: bool) -> Any:
    """Return an item as this provider may get it; None to leave it out.

    In a stateless request, an `id` without encrypted content could only name reasoning that the provider stored, of any
    client. Without the id nothing is left but a summary, which models do not read. Servers that do not encrypt
    (gpt-oss) send the reasoning as `content` and require an id, so such an item gets another one.
    """
    if not _is_reasoning(item):
        return item
    sealed = item.get("encrypted_content")
    if is_carried(sealed):
        return None
    if stored or sealed:
        return item
    return {**item, "id": f"rs_{index}"} if item.get("content") else None


def _is_reasoning(item: object) -> bool:
    return isinstance(item, Mapping) and item.get("type") == "reasoning"
