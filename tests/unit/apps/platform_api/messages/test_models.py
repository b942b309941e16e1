"""Pages of the list of models in Anthropic's shape."""

from typing import Any

import pytest

from apps.platform_api.messages.models import anthropic_models
from platform_app.errors import InvalidRequest
from platform_app.llm.models.registry import ServedModel

UNUSED: Any = None
MODELS = [ServedModel(name, (), UNUSED) for name in "abcde"]


@pytest.mark.parametrize(
    ("query", "ids", "has_more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "5"}, "abcde", False),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "d"}, "e", False),
        ({"after_id": "e"}, "", False),
        ({"limit": "2", "before_id": "d"}, "bc", True),
        ({"limit": "2", "before_id": "c"}, "ab", False),
        ({"before_id": "a"}, "", False),
    ],
)
def test_list_has_the_page_that_the_query_names(query: dict[str, str], ids: str, has_more: bool) -> None:
    page = anthropic_models(MODELS, query)
    assert ("".join(model["id"] for model in page["data"]), page["has_more"]) == (ids, has_more)
    assert (page["first_id"], page["last_id"]) == ((ids[0], ids[-1]) if ids else (None, None))


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *[({"limit": value}, "limit") for value in ("0", "-1", "1001", "x", "", "1.5", "9" * 5000, "\u0661")],
        ({"after_id": "nothing"}, "after_id"),
        ({"before_id": ""}, "before_id"),
        ({"after_id": "a", "before_id": "c"}, "before_id"),
    ],
)
def test_wrong_page_is_refused_by_name(query: dict[str, str], param: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{param}: ") as caught:
        anthropic_models(MODELS, query)
    assert caught.value.param == param
