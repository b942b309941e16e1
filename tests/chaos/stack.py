"""A gateway for the chaos programs, with PostgreSQL, Valkey and a simulated provider in separate processes."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.process import Gateway
from tests.support.servers.provider_process import start_provider
from tests.support.servers.stores import running_stores


@contextmanager
def running_stack(**variables: str) -> Iterator[tuple[Gateway, Platform, Path]]:
    """Start a gateway with one worker and these variables. Yield it, the source of its keys, and its directory."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fbchaos")))
        provider = start_provider(stack, directory, "provider")
        stores = stack.enter_context(running_stores(directory))
        models: dict[str, dict[str, object]] = {
            "assistant": {"model": "sim-ok"},
            "failing": {"model": "sim-server-error"},
            "late": {"model": "sim-delay-2000", "timeout_seconds": 0.2},
        }
        config = {
            "providers": {"provider": {"base_url": provider.base_url, "api_key_secret": "OPENAI_API_KEY"}},
            "models": {name: {"routes": [{"provider": "provider", **route}]} for name, route in models.items()},
            "rate_limits": GENEROUS,
            "policies": {"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}},
        }
        config_file = directory / "platform.yaml"
        config_file.write_text(yaml.safe_dump(config))
        platform = Platform(
            {
                **stores.environment(config_file, "assistant"),
                "PATH": "/usr/bin:/bin",
                "TMPDIR": str(directory),
                "PLATFORM_SPOOL_DIR": str(directory / "spool"),
                "OPENAI_API_KEY": "sk-chaos",
                **variables,
            }
        )
        yield stack.enter_context(Gateway(platform.environment, directory)), platform, directory
