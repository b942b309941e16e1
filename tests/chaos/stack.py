"""A gateway for the chaos programs, with PostgreSQL, Valkey and a simulated provider in separate processes."""

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.db import migrations
from tests.conftest import GENEROUS, Platform
from tests.drill.stage import start_provider
from tests.support.gateway.process import Gateway


@contextmanager
def running_stack(**variables: str) -> Iterator[tuple[Gateway, Platform, Path]]:
    """Start a gateway with one worker and these variables. Yield it, the source of its keys, and its directory."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fbchaos")))
        provider = start_provider(stack, directory, "provider")
        postgres = EmbeddedPostgres(directory / "postgres" / "data", settings={"fsync": "off"})
        stack.callback(postgres.stop)
        postgres.start()
        postgres.create_database("chaos")
        valkey = EmbeddedValkey(directory / "valkey")
        stack.callback(valkey.stop)
        valkey.start()
        migrations.upgrade(postgres.url("chaos"))
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
        (directory / "platform.yaml").write_text(yaml.safe_dump(config))
        platform = Platform(
            {
                "PATH": "/usr/bin:/bin",
                "TMPDIR": str(directory),
                "PLATFORM_ENV": "dev",
                "PLATFORM_DATABASE_URL": postgres.url("chaos"),
                "PLATFORM_REDIS_URL": valkey.url,
                "PLATFORM_CONFIG_FILE": str(directory / "platform.yaml"),
                "PLATFORM_DEFAULT_MODEL": "assistant",
                "PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}",
                "PLATFORM_SPOOL_DIR": str(directory / "spool"),
                "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
                "PLATFORM_SHUTDOWN_GRACE_SECONDS": "2",
                "OPENAI_API_KEY": "sk-chaos",
                **variables,
            }
        )
        yield stack.enter_context(Gateway(platform.environment, directory)), platform, directory
