"""The stage: a gateway with two workers and all that it needs, as processes that the drill starts and ends."""

import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.conftest import GENEROUS, Platform
from tests.drill.monitoring import Monitoring, running_monitoring
from tests.drill.traffic import Client, Traffic
from tests.drill.webhooks import PostCallback, PostReceiver
from tests.support.gateway.http import live_workers
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port
from tests.support.servers.provider_process import Provider, start_provider
from tests.support.servers.stores import running_stores

WORKERS = 2
BLOCKED_SECONDS = 0.6
BLOCK_SIGNAL = signal.SIGRTMIN
"""It blocks a worker's event loop for BLOCKED_SECONDS. The gateway itself uses SIGUSR1 and SIGUSR2."""
_BLOCK_ON_SIGNAL = f"""
import signal, time
signal.signal({int(BLOCK_SIGNAL)}, lambda *_: time.sleep({BLOCKED_SECONDS}))
"""
_CHAT, _EMBEDDINGS = "/v1/platform/chat", "/v1/embeddings"


@dataclass
class Stage:
    """Everything that a fault can break, and what watches it."""

    gateway: Gateway
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    providers: Mapping[str, Provider]
    collector: PostReceiver
    config_file: Path
    spare_key: str
    """A key that the gateway has not seen yet."""
    monitoring: Monitoring
    traffic: Traffic

    def workers(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        return live_workers(self.gateway)


@contextmanager
def running_stage(factor: int, *, redis_timeout_ms: int = 50) -> Iterator[Stage]:
    """Start everything in a temporary directory; end everything that was started."""
    with ExitStack() as stack:
        # Not below pytest's directory: PostgreSQL may run as another user, which must be able to traverse the path.
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fbdrill")))
        providers = {name: start_provider(stack, directory, name) for name in ("north", "south")}
        stores = stack.enter_context(running_stores(directory))
        collector = stack.enter_context(PostReceiver(free_port(), PostCallback()))
        config_file = directory / "platform.yaml"
        config_file.write_text(yaml.safe_dump(_config(providers)))
        platform = Platform(
            {
                **stores.environment(config_file, "assistant"),
                **_variables(directory, collector.url),
                "PLATFORM_REDIS_TIMEOUT_MS": str(redis_timeout_ms),
            }
        )
        clients = _clients(platform)
        spare_key = platform.key("platform:chat", owner="newcomer")
        gateway = Gateway(platform.environment, directory, workers=WORKERS)
        stack.callback(lambda: gateway.stop() if gateway.child is not None else None)
        gateway.start()
        monitoring = stack.enter_context(running_monitoring(directory, f"127.0.0.1:{gateway.metrics_port}", factor))
        traffic = stack.enter_context(Traffic(gateway.base_url, clients))
        yield Stage(
            gateway, stores.postgres, stores.valkey, providers, collector, config_file, spare_key, monitoring, traffic
        )


def _variables(directory: Path, collector_url: str) -> dict[str, str]:
    site = directory / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_BLOCK_ON_SIGNAL)
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(site),
        "TMPDIR": str(directory),
        "PLATFORM_SPOOL_DIR": str(directory / "spool"),
        "PLATFORM_METRICS_CACHE_SECONDS": "0.2",
        "PLATFORM_WORKER_TIMEOUT_SECONDS": "6",
        "OPENAI_API_KEY": "sk-drill",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector_url,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_BSP_SCHEDULE_DELAY": "500",
    }


def _config(providers: Mapping[str, Provider]) -> dict[str, object]:
    """Return a config file with four models: two with a fallback, one on each provider alone.

    Each model has its own name at the provider, so that a fault can hit one of them.
    """
    routes = {
        "assistant": ("north", "south"),
        "narrator": ("south", "north"),
        "writer": ("south",),
        "embedder": ("north",),
    }
    return {
        "providers": {
            name: {"base_url": each.base_url, "api_key_secret": "OPENAI_API_KEY"} for name, each in providers.items()
        },
        "models": {
            model: {"routes": [{"provider": provider, "model": f"sim-ok@{model}"} for provider in names]}
            for model, names in routes.items()
        },
        "rate_limits": GENEROUS,
        # A breaker that opens and closes within the drill's scaled windows.
        "policies": {"breaker": {"window_seconds": 5, "open_seconds": 2}},
    }


def _clients(platform: Platform) -> list[Client]:
    """Return four clients, each with a quarter of all requests."""

    def client(name: str, path: str, body: Mapping[str, object]) -> Client:
        return Client(name, platform.key("platform:chat", "platform:embeddings", owner=name), path, body, 6.0)

    return [
        client("support-desk", _CHAT, {"model": "assistant", "prompt": "Say hello."}),
        client("newsroom", _CHAT, {"model": "narrator", "prompt": "tokens:20", "stream": True}),
        client("marketing", _CHAT, {"model": "writer", "prompt": "Say hello."}),
        client("search", _EMBEDDINGS, {"model": "embedder", "input": "one line of text"}),
    ]
