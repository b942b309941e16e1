"""What outlives a change of the config file: breakers and slots, which calls under way still hold."""

from collections.abc import Iterable

from platform_app.config import BreakerConfig, PlatformConfig
from platform_app.llm.models.route import Route
from platform_app.llm.policies.breaker import BreakerState
from platform_app.llm.policies.concurrency import ConcurrencyLimit


class PolicyState:
    """One for each process. Holds as much as the catalog has routes: `keep_only` drops the rest."""

    def __init__(self) -> None:
        self._breakers: dict[tuple[str, str], BreakerState] = {}
        self._slots: dict[str, ConcurrencyLimit] = {}

    def breaker(self, route: Route, config: BreakerConfig) -> BreakerState:
        """The route's breaker: the one that all public models with the same model of the same provider share. With
        other numbers than before it starts anew, closed."""
        key = (route.provider, route.upstream_model)
        state = self._breakers.get(key)
        if state is not None and state.config == config:
            return state
        if state is not None:
            state.retire()
        state = self._breakers[key] = BreakerState(*key, config)
        return state

    def slots(self, provider: str, config: PlatformConfig) -> ConcurrencyLimit | None:
        """The provider's slots, None where it has no cap. Other numbers than before hold for the same slots."""
        numbers = config.providers[provider]
        if numbers.max_concurrent is None:
            return None
        asked = (numbers.max_concurrent, numbers.max_waiting, config.policies.queue_seconds)
        if (slots := self._slots.get(provider)) is not None:
            slots.resize(*asked)
        else:
            slots = self._slots[provider] = ConcurrencyLimit(provider, *asked)
        return slots

    def keep_only(self, routes: Iterable[Route], config: PlatformConfig) -> None:
        """Forget what no route needs any more."""
        wanted = {(route.provider, route.upstream_model) for route in routes}
        for key in self._breakers.keys() - wanted:
            self._breakers.pop(key).retire()
        capped = {provider for provider, _ in wanted if config.providers[provider].max_concurrent is not None}
        for provider in self._slots.keys() - capped:
            self._slots.pop(provider).retire()
