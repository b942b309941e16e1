"""The whole order of a model's routes for one call, with the routes that are only tried after a failure."""

from collections.abc import Sequence
from typing import Any

import pytest

from platform_app.llm.policies.choice.route_choice import RouteCandidate, RouteChoice
from platform_app.llm.requests import ModelCall, Operation
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, a_route

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}


class Leaves:
    """A strategy that draws the first route, and moves sessions from some routes."""

    def __init__(self, *routes: int) -> None:
        self._routes = routes

    def first(self, stream: bool) -> int:
        return 0

    def should_leave(self, index: int, stream: bool) -> bool:
        return index in self._routes


def choice_of(*weights: int | None, draws: Sequence[float] = (), **options: Any) -> RouteChoice:
    """Return a choice whose routes are named a, b, c, and so on. More draws than given raise StopIteration."""
    candidates = [
        RouteCandidate(a_route(name, weight=weight), ScriptedUpstream(RESPONSE))
        for name, weight in zip("abcd", weights, strict=False)
    ]
    drawn = iter(draws)
    return RouteChoice(candidates, draw=lambda: next(drawn), **options)


def order_of(choice: RouteChoice, session: str | None = None, **fields: Any) -> str:
    order = choice.order(ModelCall(fields.pop("body", {}), 60.0, session=session, **fields))
    return "".join(each.route.provider for each in order.candidates)


def test_drawn_route_precedes_weighted_then_other_routes() -> None:
    choice = choice_of(5, None, 5, 5, draws=[0.5, 0.0])
    assert [order_of(choice), order_of(choice)] == ["cadb", "acdb"]


def test_routes_are_drawn_by_weight_unless_a_strategy_is_given() -> None:
    assert [order_of(choice_of(1, 3, draws=[draw])) for draw in (0.24, 0.25, 0.99)] == ["ab", "ba", "ba"]


@pytest.mark.parametrize(("weights", "order"), [((None, None), "ab"), ((None, 3), "ba"), ((3, None), "ab")])
def test_model_without_a_choice_has_one_order(weights: tuple[int | None, ...], order: str) -> None:
    choice = choice_of(*weights)
    assert [order_of(choice), order_of(choice, "s")] == [order, order]


def test_two_weighted_routes_keep_sessions_by_default() -> None:
    choice = choice_of(1, 1)
    orders = {name: order_of(choice, name) for name in "stuvwxyz"}
    assert set(orders.values()) == {"ab", "ba"}
    assert {name: order_of(choice_of(1, 1), name) for name in orders} == orders


def test_model_without_affinity_draws_each_call_of_a_session() -> None:
    choice = choice_of(1, 1, draws=[0.9, 0.1] * 4, affinity=False)
    assert [order_of(choice, name) for name in "ssttuuvv"] == ["ba", "ab"] * 4


def test_only_chats_have_a_session_by_their_content() -> None:
    choice = choice_of(1, 1, draws=[0.9, 0.1])
    assert order_of(choice, body=CHAT) == order_of(choice, body=CHAT)
    embeddings = [order_of(choice, body={"input": "Hi"}, operation=Operation.EMBEDDINGS) for _ in range(2)]
    assert embeddings == ["ba", "ab"]


def test_session_leaves_routes_in_its_order() -> None:
    """The routes that it leaves are tried last, and the first choice before the others of them."""
    first, second, third = list(order_of(choice_of(1, 1, 1), "s"))

    def leaving(*names: str) -> str:
        return order_of(choice_of(1, 1, 1, strategy=Leaves(*("abc".index(name) for name in names))), "s")

    assert leaving(first) == second + third + first
    assert leaving(first, second) == third + first + second
    assert leaving(first, third) == second + first + third
    assert leaving(second, third) == first + second + third
    assert leaving(first, second, third) == first + second + third


def test_first_choice_of_a_session_stays_named_when_it_leaves() -> None:
    call = ModelCall({}, 60.0, session="s")
    first = choice_of(1, 1, 1).order(call).candidates[0].route.provider
    order = choice_of(1, 1, 1, strategy=Leaves("abc".index(first))).order(call)
    assert order.preferred is not None
    assert order.preferred.route.provider == first != order.candidates[0].route.provider
    assert choice_of(1, 1, draws=[0.1]).order(ModelCall({}, 60.0)).preferred is None
