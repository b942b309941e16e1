"""The served models: found only by their public names, and replaced as a whole."""

import pytest

from platform_app.errors import ModelNotFound
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.pricing import FlatPrice
from tests.support.fakes.core import FakeUpstream


def served(name: str, *prices: FlatPrice | None) -> ServedModel:
    routes = tuple(Route(name, f"p{number}", name, price=price) for number, price in enumerate(prices or (None,)))
    return ServedModel(name, routes, FakeUpstream(routes[0]))


@pytest.fixture
def directory() -> ModelRegistry:
    return ModelRegistry({name: served(name) for name in ("small", "big")}, "small")


@pytest.mark.parametrize("asked", [None, ""])
def test_no_model_finds_default_model(directory: ModelRegistry, asked: str | None) -> None:
    assert directory.find(asked).name == "small"


@pytest.mark.parametrize("asked", ["gpt-4o", "BIG", "big ", "../big"])
def test_upstream_name_is_not_found(directory: ModelRegistry, asked: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        directory.find(asked)
    assert f"'{asked}'" in caught.value.message


def test_long_name_is_truncated_in_error(directory: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound) as caught:
        directory.find("x" * 10_000)
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("key", ["fbp_live_abcdefABC123_0123456789abcdef0123456789", "sk-proj-0123456789abcdef0123"])
def test_key_sent_as_model_is_masked(directory: ModelRegistry, key: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        directory.find(key)
    assert key not in caught.value.message
    assert key[-12:] not in caught.value.message


def test_models_are_sorted_by_name(directory: ModelRegistry) -> None:
    assert [model.name for model in directory.models] == ["big", "small"]


def test_replace_changes_models_and_defaults(directory: ModelRegistry) -> None:
    directory.replace({"new": served("new")}, "new", 7)
    assert (directory.find(None).name, directory.default_output_tokens) == ("new", 7)
    with pytest.raises(ModelNotFound):
        directory.find("small")


def test_highest_cost_is_of_most_expensive_route() -> None:
    usage = TokenUsage(prompt_tokens=100, completion_tokens=10)
    assert served("m", FlatPrice(1, 2, 1, 1, 1), None, FlatPrice(3, 1, 3, 3, 3)).most_microusd(usage) == 310
    assert served("m", None).most_microusd(usage) == 0
