"""Policy chains around real routes to the simulator, for tests of the policies over real sockets."""

import asyncio
from collections.abc import Callable
from typing import Any

from apps.provider_simulator.record import RequestRecord
from platform_app.config import PlatformConfig
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool
from platform_app.llm.interfaces import Upstream, UpstreamResponse
from platform_app.llm.models.builder import routes_by_model
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.policies.chain import build_policy_chains
from platform_app.llm.policies.state import PolicyState
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.requests import ModelCall

QUICK = {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02, "retry_after_cap_seconds": 2}
NO_RETRY = {"max_attempts": 1}
SHORT = {"rate-limited": "sim-rate-limited-0.05", "overloaded": "sim-overloaded-0.05"}
"""The faults of EXPECTED, with waits that keep the tests short."""


class FixedCredentials:
    """One key for every provider, which never changes."""

    async def get(self, name: str) -> str:
        return "sk-policies-27c1"

    async def refresh(self, name: str, rejected: str) -> str:
        return rejected


class Chains:
    """The upstreams of one model `m`, from sections of a config file. The provider `one` times out after
    `idle_timeout_seconds` without data."""

    def __init__(
        self,
        pool: ConnectionPool,
        base_url: str,
        routes: list[dict[str, Any]],
        providers: dict[str, dict[str, Any]] | None = None,
        idle_timeout_seconds: float = 30,
        **policies: Any,
    ) -> None:
        names = {route["provider"] for route in routes}
        sections = {
            name: {"base_url": base_url, "api_key_secret": "KEY", **(providers or {}).get(name, {})} for name in names
        }
        config = PlatformConfig.model_validate(
            {"providers": sections, "models": {"m": {"routes": routes}}, "policies": {"retry": QUICK, **policies}}
        )
        adapters = {
            name: make_adapter(
                provider, pool, ProviderLimits(30, idle_timeout_seconds if name == "one" else 30, 1024 * 1024)
            )
            for name, provider in config.providers.items()
        }
        self.state = PolicyState()
        self.upstream: Upstream = build_policy_chains(
            config,
            routes_by_model(config),
            lambda route: ProviderRoute(route, adapters[route.provider], FixedCredentials()),
            self.state,
        )["m"]

    def call(self, seconds: float = 60.0, stream: bool = False) -> ModelCall:
        body = {"messages": [{"role": "user", "content": "Hello, how are you?"}]}
        return ModelCall(body, asyncio.get_running_loop().time() + seconds, stream=stream)

    async def send(self, seconds: float = 60.0, stream: bool = False) -> UpstreamResponse:
        return await self.upstream.send(self.call(seconds, stream))

    def in_use(self, provider: str) -> tuple[int, int]:
        limit = self.state._limits[provider]
        return limit.in_use, limit.waiting


MakeChains = Callable[..., Chains]


def to(model: str, provider: str = "one", **fields: Any) -> dict[str, Any]:
    return {"provider": provider, "model": model, **fields}


async def drain(response: UpstreamResponse) -> None:
    if isinstance(response, ChunkStream):
        try:
            async for _ in response:
                pass
        finally:
            await response.aclose()


def most_at_once(records: list[RequestRecord]) -> int:
    marks = sorted((at, step) for r in records for at, step in ((r.started, 1), (r.ended or r.started, -1)))
    running = most = 0
    for _, step in marks:
        running += step
        most = max(most, running)
    return most
