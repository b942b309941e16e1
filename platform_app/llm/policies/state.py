"""The state of the policies that survives a config reload: breakers, concurrency limits and the load of routes, which
running calls use."""

from collections.abc import Iterable

from platform_app.config import BreakerConfig, PlatformConfig
from platform_app.llm.models.route import Route
from platform_app.llm.policies.breaker import BreakerState
from platform_app.llm.policies.choice.route_load import RouteLoad
from platform_app.llm.policies.concurrency import ConcurrencyLimit


class PolicyState:
    """The breakers and loads by route and the concurrency limits by provider, one instance for each process.

    Its size follows the config file: `keep_only` drops what no route uses any more.
    """

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str], BreakerState] = {}
        self._limits: dict[str, ConcurrencyLimit] = {}
        self._loads: dict[tuple[str, str], RouteLoad] = {}

    def breaker(self, route: Route, config: BreakerConfig) -> BreakerState:
        """Return the breaker of the route's provider and upstream model, which all public models share. If its config
        changed, the breaker is replaced by a new, closed one."""
        key = (route.provider, route.label)
        state = self._breakers.get(key)
        if state is not None and state.config == config:
            return state
        if state is not None:
            state.retire()
        state = self._breakers[key] = BreakerState(*key, config)
        return state

    def concurrency_limit(self, provider: str, config: PlatformConfig) -> ConcurrencyLimit | None:
        """Return the provider's limit, or None if it has none. If its config changed, the same limit is resized."""
        settings = config.providers[provider]
        if settings.max_concurrent is None:
            return None
        sizes = (settings.max_concurrent, settings.max_waiting, config.policies.queue_seconds)
        if (limit := self._limits.get(provider)) is not None:
            limit.resize(*sizes)
        else:
            limit = self._limits[provider] = ConcurrencyLimit(provider, *sizes)
        return limit

    def load(self, route: Route) -> RouteLoad:
        """Return the load of the route's provider and upstream model, which all public models share."""
        return self._loads.setdefault((route.provider, route.label), RouteLoad())

    def keep_only(self, routes: Iterable[Route], config: PlatformConfig) -> None:
        """Drop the breakers, loads and limits that none of the routes uses."""
        used = {(route.provider, route.label) for route in routes}
        for key in self._breakers.keys() - used:
            self._breakers.pop(key).retire()
        for key in self._loads.keys() - used:
            del self._loads[key]
        limited = {provider for provider, _ in used if config.providers[provider].max_concurrent is not None}
        for provider in self._limits.keys() - limited:
            self._limits.pop(provider).retire()
