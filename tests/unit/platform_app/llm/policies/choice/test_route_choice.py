"""Sessions over the routes of one model, with the fallback that counts where their calls went."""

import asyncio
from collections.abc import Sequence

import pytest

from platform_app.errors import InvalidRequest, ProviderError
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.policies.choice.route_choice import RouteCandidate, RouteChoice
from platform_app.llm.policies.choice.route_load import RouteLoad
from platform_app.llm.policies.choice.strategies import LeastBusy, Strategy
from platform_app.llm.policies.fallback import Fallback
from platform_app.llm.requests import ModelCall, Operation
from platform_app.observability import metrics
from tests.support.fakes.upstreams import RESPONSE, ScriptedUpstream, a_route

OPEN = BreakerOpen("open")


class Routes:
    """Three equal routes and one without a weight."""

    def __init__(self, strategy: Strategy | None = None, *, affinity: bool = True, draws: Sequence[float] = ()) -> None:
        self.upstreams = [ScriptedUpstream(RESPONSE) for _ in range(4)]
        candidates = [
            RouteCandidate(a_route(f"p{number}", weight=None if number == 3 else 5), upstream)
            for number, upstream in enumerate(self.upstreams)
        ]
        drawn = iter(draws)
        choice = RouteChoice(candidates, strategy, affinity=affinity, draw=lambda: next(drawn))
        self.fallback = Fallback(candidates, choice=choice)

    async def send(self, session: str | None = None, **fields: object) -> list[int]:
        """Send a call, and return the routes that got it."""
        before = [upstream.calls for upstream in self.upstreams]
        call = ModelCall({}, asyncio.get_running_loop().time() + 60, session=session, **fields)  # type: ignore[arg-type]
        await self.fallback.send(call)
        return [number for number, each in enumerate(self.upstreams) if each.calls > before[number]]

    def respond(self, number: int, step: BaseException | None) -> None:
        self.upstreams[number].steps = [RESPONSE if step is None else step]


def counted(outcome: str) -> float:
    return float(metrics.SESSION_ROUTES.labels("public", outcome)._value.get())


async def test_turns_of_a_session_get_one_route_on_every_worker() -> None:
    """Two choices share no state. Twenty sessions use every route with a weight, and no other."""
    workers = Routes(), Routes()
    used = set()
    for session in map(str, range(20)):
        [first], [second] = [await worker.send(session) for worker in workers]
        assert first == second
        used.add(first)
    assert used == {0, 1, 2}


@pytest.mark.parametrize(("failure", "outcome"), [(OPEN, "breaker_open"), (ProviderError("down"), "failed")])
async def test_failing_first_choice_moves_a_session_until_it_recovers(failure: Exception, outcome: str) -> None:
    """The second choice is the same each time."""
    routes = Routes()
    [first] = await routes.send("s")
    before, stayed = counted(outcome), counted("first_choice")
    routes.respond(first, failure)
    second = [await routes.send("s") for _ in range(5)]
    assert len({tuple(each) for each in second}) == 1
    assert len(set(second[0]) - {first}) == 1
    assert counted(outcome) - before == 5
    routes.respond(first, None)
    assert await routes.send("s") == [first]
    assert counted("first_choice") - stayed == 1


async def test_failure_of_the_first_choice_is_what_counts() -> None:
    """The second choice fails otherwise, and the third responds."""
    routes = Routes()
    [first] = await routes.send("s")
    routes.respond(first, OPEN)
    [second] = set(await routes.send("s")) - {first}
    routes.respond(second, ProviderError("down"))
    before = counted("breaker_open"), counted("failed")
    assert len(await routes.send("s")) == 3
    assert (counted("breaker_open"), counted("failed")) == (before[0] + 1, before[1])


async def test_owner_cannot_choose_the_route_of_another_owners_session() -> None:
    routes = Routes()
    found = {await_first for owner in "abcdefghij" for await_first in await routes.send("s", owner=owner)}
    assert len(found) > 1


async def test_calls_without_session_or_affinity_are_drawn() -> None:
    assert await Routes(draws=[0.99]).send() == [2]
    assert await Routes(draws=[0.0]).send() == [0]
    assert await Routes(affinity=False, draws=[0.99]).send("s") == [2]
    assert await Routes(draws=[0.4]).send(operation=Operation.EMBEDDINGS) == [1]


async def test_pinned_call_gets_its_route_alone() -> None:
    """Also one without a weight; no other route can serve a stored response."""
    routes = Routes()
    before = counted("pinned")
    assert await routes.send("s", pinned=("p3", "large")) == [3]
    assert counted("pinned") - before == 1
    routes.respond(3, ProviderError("down"))
    with pytest.raises(ProviderError):
        await routes.send("s", pinned=("p3", "large"))
    assert [upstream.calls for upstream in routes.upstreams] == [0, 0, 0, 2]
    with pytest.raises(InvalidRequest, match="previous_response_id"):
        await routes.send("s", pinned=("p9", "large"))


async def test_session_leaves_a_busy_route_and_returns() -> None:
    loads = [RouteLoad() for _ in range(3)]
    routes = Routes(LeastBusy([5, 5, 5], loads, lambda: 0.0))
    [first] = await routes.send("s")
    before = counted("strategy")
    loads[first].in_flight = 99
    [second] = await routes.send("s")
    assert second != first
    assert counted("strategy") - before == 1
    loads[first].in_flight = 0
    assert await routes.send("s") == [first]
