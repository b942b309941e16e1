"""The way to each public model, put together from its routes and the policies around them.

From the outside in, and why (docs/adr/0010):
    FailureMetrics   sees what callers get
    Deadline          bounds everything within
    Fallback          left out where there is one route
    Retry             outside of breaker and slots: a wait holds no slot, and each try asks the breaker
    Breaker           an open one takes no slot and no place in the queue
    Concurrency       left out where the provider has no cap
    the route itself
"""

from collections.abc import Callable, Mapping, Sequence

from platform_app.config import PlatformConfig
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.policies.breaker import Breaker
from platform_app.llm.policies.concurrency import Concurrency
from platform_app.llm.policies.deadline import Deadline
from platform_app.llm.policies.failure_metrics import FailureMetrics
from platform_app.llm.policies.fallback import Fallback, RouteCandidate
from platform_app.llm.policies.retry import Retry
from platform_app.llm.policies.state import PolicyState

MakeRoute = Callable[[Route], Upstream]
"""Makes the innermost upstream of a route, such as ProviderRoute."""


def build_policy_chains(
    config: PlatformConfig, routes: Mapping[str, Sequence[Route]], make_route: MakeRoute, state: PolicyState
) -> dict[str, Upstream]:
    """The upstream of every public model; state that the new catalog does not need is dropped. For the start and for
    every reload alike."""
    upstreams = {model: build_policy_chain(config, routes[model], make_route, state) for model in routes}
    state.keep_only((route for each in routes.values() for route in each), config)
    return upstreams


def build_policy_chain(
    config: PlatformConfig, routes: Sequence[Route], make_route: MakeRoute, state: PolicyState
) -> Upstream:
    """The upstream of one public model, which has at least one route."""
    retry = config.policies.retry
    alone = len(routes) == 1
    max_wait = None if alone else retry.retry_after_max_seconds
    choices = []
    for route in routes:
        upstream = make_route(route)
        if (slots := state.slots(route.provider, config)) is not None:
            upstream = Concurrency(upstream, slots)
        upstream = Breaker(upstream, state.breaker(route, config.policies.breaker))
        choices.append(RouteCandidate(route, Retry(upstream, route, retry, max_wait)))
    tried = choices[0].upstream if alone else Fallback(choices)
    return FailureMetrics(Deadline(tried), routes[0].public_model)
