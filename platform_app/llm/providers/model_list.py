"""Read a list of models, which OpenAI and Anthropic write alike: `{"data": [{"id": ...}]}`."""

import orjson

from platform_app.llm.interfaces import ModelList


def read_model_list(body: bytes) -> ModelList:
    """Return the list; an incomplete one if the body is not a list, or is only its first page."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ModelList()
    if not isinstance(parsed, dict) or not isinstance(parsed.get("data"), list):
        return ModelList()
    names = frozenset(
        item["id"] for item in parsed["data"] if isinstance(item, dict) and isinstance(item.get("id"), str)
    )
    return ModelList(names, complete=bool(names) and not parsed.get("has_more"))
