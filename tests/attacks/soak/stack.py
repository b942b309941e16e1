"""A gateway with everything that it needs, as separate processes in a temporary directory."""

import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.db import migrations
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import workers
from tests.support.gateway.process import Gateway, write_config
from tests.support.servers.ports import free_port


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
        provider = f"http://127.0.0.1:{_start_simulator(stack, directory)}/v1"
        postgres = EmbeddedPostgres(directory / "postgres")
        stack.callback(postgres.stop)
        postgres.start()
        postgres.create_database("soak")
        valkey = EmbeddedValkey(directory / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        migrations.upgrade(postgres.url("soak"))
        platform = Platform(
            {
                "PLATFORM_ENV": "dev",
                "PLATFORM_DATABASE_URL": postgres.url("soak"),
                "PLATFORM_REDIS_URL": valkey.url,
                "PLATFORM_CONFIG_FILE": str(write_config(directory / "platform.yaml", provider, rate_limits=GENEROUS)),
                "PLATFORM_DEFAULT_MODEL": "sim-ok",
                "PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}",
                "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
                "PLATFORM_SHUTDOWN_GRACE_SECONDS": "2",
                "OPENAI_API_KEY": "sk-soak",
            }
        )
        key = platform.key("platform:chat")
        gateway = stack.enter_context(Gateway(platform.environment, directory))
        yield Stack(gateway, key)


def _start_simulator(stack: ExitStack, directory: Path) -> int:
    port = free_port()
    arguments = [sys.executable, "-m", "apps.provider_simulator", "--port", str(port)]
    child = ChildProcess("the simulator", arguments, log_file=directory / "simulator.log")
    stack.callback(child.stop)

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=1, trust_env=False).status_code < 500
        except httpx.HTTPError:
            return False

    child.wait_ready(ready, 30)
    return port
