"""A gateway with everything that it needs, as separate processes in a temporary directory."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import workers
from tests.support.gateway.process import Gateway, write_config
from tests.support.servers.provider_process import start_provider
from tests.support.servers.stores import running_stores


@dataclass(frozen=True, slots=True)
class Stack:
    """A running gateway with one worker, and a chat key."""

    gateway: Gateway
    key: str

    @property
    def worker(self) -> int:
        """The process id of the worker."""
        (worker,) = workers(self.gateway)
        return worker


@contextmanager
def running_stack(directory: Path) -> Iterator[Stack]:
    """Start all of it; end all of it."""
    with ExitStack() as stack:
        provider = start_provider(stack, directory, "provider")
        stores = stack.enter_context(running_stores(directory))
        config = write_config(directory / "platform.yaml", provider.base_url, rate_limits=GENEROUS)
        platform = Platform({**stores.environment(config, "sim-ok"), "OPENAI_API_KEY": "sk-soak"})
        key = platform.key("platform:chat")
        gateway = stack.enter_context(Gateway(platform.environment, directory))
        yield Stack(gateway, key)
