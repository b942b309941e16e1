"""Wrap the routes of each public model in the policies.

The order, from the outermost to the innermost, and the reason for it (docs/adr/0010):
    FailureMetrics    sees the errors that callers get
    Deadline          limits the time of everything inside
    Fallback          left out if the model has one route; its RouteChoice orders the routes for each call
    Retry             outside of breaker and concurrency limit: a wait uses no place, and each attempt asks the breaker
    Breaker           outside of the concurrency limit: an open breaker uses no place and does not queue
    Observed          only for the strategies that need it; a wait for a place counts as the route's
    Concurrency       left out if the provider has no limit
    ProviderRoute     sends the request
"""

import random
from collections.abc import Callable, Mapping, Sequence

from platform_app.config import ModelConfig, PlatformConfig
from platform_app.llm.interfaces import Upstream
from platform_app.llm.models.route import Route
from platform_app.llm.policies.breaker import Breaker
from platform_app.llm.policies.choice.route_choice import RouteCandidate, RouteChoice
from platform_app.llm.policies.choice.route_load import Observed
from platform_app.llm.policies.choice.strategies import Latency, LeastBusy, Strategy
from platform_app.llm.policies.concurrency import Concurrency
from platform_app.llm.policies.deadline import Deadline
from platform_app.llm.policies.failure_metrics import FailureMetrics
from platform_app.llm.policies.fallback import Fallback
from platform_app.llm.policies.retry import Retry
from platform_app.llm.policies.state import PolicyState

MakeRoute = Callable[[Route], Upstream]
"""Makes the innermost upstream of a route, such as ProviderRoute."""


def build_policy_chains(
    config: PlatformConfig, routes: Mapping[str, Sequence[Route]], make_route: MakeRoute, state: PolicyState
) -> dict[str, Upstream]:
    """Return the upstream of every public model, at startup and after a config reload. State that the new config does
    not need is dropped."""
    upstreams = {name: build_policy_chain(name, config, routes[name], make_route, state) for name in routes}
    state.keep_only((route for each in routes.values() for route in each), config)
    return upstreams


def build_policy_chain(
    name: str, config: PlatformConfig, routes: Sequence[Route], make_route: MakeRoute, state: PolicyState
) -> Upstream:
    """Return the upstream of the public model `name`, which has at least one route."""
    retry, model = config.policies.retry, config.models[name]
    has_one_route = len(routes) == 1
    max_wait = None if has_one_route else retry.retry_after_max_seconds
    candidates = []
    for route in routes:
        upstream = make_route(route)
        if (limit := state.concurrency_limit(route.provider, config)) is not None:
            upstream = Concurrency(upstream, limit)
        if not has_one_route and model.strategy != "weighted":
            upstream = Observed(upstream, state.load(route))
        upstream = Breaker(upstream, state.breaker(route, config.policies.breaker))
        candidates.append(RouteCandidate(route, Retry(upstream, route, retry, max_wait)))
    if has_one_route:
        upstream = candidates[0].upstream
    else:
        choice = RouteChoice(candidates, _strategy(model, routes, state), affinity=model.affinity)
        upstream = Fallback(candidates, choice=choice)
    return FailureMetrics(Deadline(upstream), name)


def _strategy(model: ModelConfig, routes: Sequence[Route], state: PolicyState) -> Strategy | None:
    """Return the model's strategy; None for the default."""
    if model.strategy == "weighted":
        return None
    kind = LeastBusy if model.strategy == "least_busy" else Latency
    weights = [route.weight for route in routes if route.weight is not None]
    loads = [state.load(route) for route in routes if route.weight is not None]
    return kind(weights, loads, random.random)
