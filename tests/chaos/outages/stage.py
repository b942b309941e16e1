"""Two gateways with two workers each, and the servers that they share."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.conftest import Platform
from tests.support.gateway.http import live_workers, metric
from tests.support.gateway.process import Gateway
from tests.support.servers.openbao import ROOT_TOKEN, OpenBao
from tests.support.servers.provider_process import Provider, start_provider
from tests.support.servers.stores import running_stores

GATEWAYS = WORKERS = 2
LIMITED = 40
"""Requests for the model `scarce` that a key may send in ten minutes, which is longer than a fault."""
SLOTS = 16


@dataclass
class Stage:
    """What a fault can hit."""

    gateways: list[Gateway]
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    openbao: OpenBao
    providers: Mapping[str, Provider]
    platform: Platform

    @property
    def database_url(self) -> str:
        """The gateways' database."""
        return self.platform.environment["PLATFORM_DATABASE_URL"]

    def workers(self) -> list[int]:
        """Return the process ids of all workers that run now."""
        return [pid for gateway in self.gateways for pid in live_workers(gateway)]

    def put_secrets(self) -> None:
        """Write what the gateways read; OpenBao in development mode keeps it in memory."""
        self.openbao.put("OPENAI_API_KEY", "sk-chaos")
        self.openbao.put("PLATFORM_API_KEY_PEPPER", self.platform.environment["PLATFORM_API_KEY_PEPPER"])

    def ready(self) -> bool:
        """Return whether both gateways are ready, with all their workers, and count together in Valkey."""
        all_run = all(_is_ready(gateway) for gateway in self.gateways) and len(self.workers()) == GATEWAYS * WORKERS
        return all_run and not any(metric(gateway.metrics(), "platform_limiter_degraded") for gateway in self.gateways)


def _is_ready(gateway: Gateway) -> bool:
    try:
        return httpx.get(f"{gateway.base_url}/readyz", timeout=30, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def running_stage(*, redis_timeout_ms: int = 50) -> Iterator[Stage]:
    """Start everything in a temporary directory; end everything that was started."""
    with ExitStack() as stack:
        # Not below pytest's directory: PostgreSQL may run as another user, which must be able to traverse the path.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fbchaos")))
        providers = {name: start_provider(stack, directory, name) for name in ("north", "south")}
        stores = stack.enter_context(running_stores(directory))
        openbao = stack.enter_context(OpenBao(directory))
        config = directory / "platform.yaml"
        config.write_text(yaml.safe_dump(_config(providers)))
        platform = Platform(
            {
                **stores.environment(config, "assistant"),
                "PATH": "/usr/bin:/bin",
                "TMPDIR": str(directory),
                "PLATFORM_DATABASE_TIMEOUT_SECONDS": "1",
                "PLATFORM_REDIS_TIMEOUT_MS": str(redis_timeout_ms),
                "PLATFORM_REPLICAS": str(GATEWAYS),
                "PLATFORM_AUTH_CACHE_TTL_SECONDS": "1",
                "PLATFORM_WORKER_TIMEOUT_SECONDS": "4",
                "PLATFORM_METRICS_CACHE_SECONDS": "0.2",
                "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "3",
            }
        )
        environment = {name: value for name, value in platform.environment.items() if "PEPPER" not in name} | {
            "PLATFORM_SECRET_PROVIDER": "vault",
            "PLATFORM_VAULT_ADDR": openbao.address,
            "PLATFORM_VAULT_TOKEN": ROOT_TOKEN,
            "PLATFORM_VAULT_PATH_PREFIX": "",
            "PLATFORM_SECRET_TTL_SECONDS": "5",
        }
        gateways = [
            Gateway({**environment, "PLATFORM_SPOOL_DIR": str(directory / f"spool{each}")}, directory, workers=WORKERS)
            for each in range(GATEWAYS)
        ]
        stage = Stage(gateways, stores.postgres, stores.valkey, openbao, providers, platform)
        stage.put_secrets()
        for gateway in gateways:
            stack.enter_context(gateway)
        yield stage


def _config(providers: Mapping[str, Provider]) -> dict[str, object]:
    """Return a config file with one model on both providers, and one on each alone; `scarce` has a low limit."""
    routes = {"assistant": ("north", "south"), "writer": ("north",), "scarce": ("south",)}
    return {
        "providers": {
            name: {"base_url": each.base_url, "api_key_secret": "OPENAI_API_KEY", "max_concurrent": SLOTS}
            for name, each in providers.items()
        },
        "models": {
            model: {"routes": [{"provider": provider, "model": f"sim-ok@{model}"} for provider in names]}
            for model, names in routes.items()
        },
        "rate_limits": {
            "rules": [
                {"name": "key-requests", "scope": "key", "limit": 1_000_000, "window_seconds": 600},
                {"name": "scarce", "scope": "key", "limit": LIMITED, "window_seconds": 600, "models": ["scarce"]},
            ]
        },
        "policies": {"breaker": {"window_seconds": 5, "open_seconds": 1}},
    }
