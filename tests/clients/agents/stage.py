"""A gateway with one model for each provider format, and the simulator behind it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import GENEROUS, PATIENT, Platform
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.ledger.usage.records import BilledKey
from tests.support.providers.client_models import providers_of
from tests.support.providers.simulator_thread import running_simulator
from tests.support.servers.stores import running_stores

ROUTES = {
    "openai": "chat completions",
    "azure": "Azure chat completions",
    "anthropic": "Messages",
    "responses": "Responses",
}
"""The API of the provider behind each wire."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What the sessions use."""

    gateway: Gateway
    platform: Platform

    def new_key(self) -> BilledKey:
        """Return a new key, whose usage records are those of one session."""
        record, text = self.platform.new_key("platform:chat", "platform:models:read")
        return BilledKey(record.key_id, text)


@contextmanager
def running_stage(directory: Path) -> Iterator[Stage]:
    """Start all of it; end all of it."""
    with ExitStack() as stack:
        provider = stack.enter_context(running_simulator())
        stores = stack.enter_context(running_stores(directory))
        config = write_catalog(
            directory / "platform.yaml",
            providers_of(provider),
            {f"agent-{wire}": [(wire, "sim-ok")] for wire in ROUTES if wire in providers_of(provider)},
            rate_limits=GENEROUS,
            policies=PATIENT,
        )
        platform = Platform({**stores.environment(config, "agent-openai"), "OPENAI_API_KEY": "sk-agents"})
        yield Stage(stack.enter_context(Gateway(platform.environment, directory)), platform)
