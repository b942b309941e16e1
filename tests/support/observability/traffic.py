"""Traffic that moves the gateway's metrics: each kind of request once, and faults that are cheap to cause."""

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.support.gateway.chat_routes import MESSAGES, RESPONSES
from tests.support.gateway.http import chat_head
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway

PRICE = {"input_usd_per_million": 1, "output_usd_per_million": 2}
ATTACKER = {"X-Forwarded-For": "203.0.113.7"}
"""The address of a client that is refused: the gateway trusts this machine as a proxy."""
_BREAKER = {"minimum_calls": 3, "window_seconds": 300, "open_seconds": 600}


def config(simulator: ProviderSimulator, certificate: tuple[Path, Path]) -> dict[str, Any]:
    """Return a config file with working and failing models in all wire formats, and rules of each kind.

    No request uses the provider with the client certificate: its expiry is a metric.
    """
    origin = simulator.base_url.removesuffix("/v1")
    secret = {"api_key_secret": "OPENAI_API_KEY"}
    providers = {
        "openai": {"base_url": simulator.base_url, **secret},
        "azure": {"wire_format": "azure", "base_url": origin, "api_version": "2024-10-21", **secret},
        "anthropic": {"wire_format": "anthropic", "base_url": f"{origin}/anthropic", **secret},
        "narrow": {"base_url": simulator.base_url, "max_concurrent": 1, "max_waiting": 0, **secret},
        "down": {"base_url": simulator.refused_url, **secret},
        "mutual": {
            "base_url": "https://127.0.0.1/v1",
            "client_cert_file": str(certificate[0]),
            "client_key_file": str(certificate[1]),
            **secret,
        },
    }
    routes: dict[str, list[tuple[str, str]]] = {
        "chat": [("openai", "sim-ok")],
        "azure": [("azure", "sim-ok")],
        "anthropic": [("anthropic", "sim-ok")],
        "embedding": [("openai", "text-embedding-3-small")],
        "slow": [("openai", "sim-slow-stream-50")],
        "late": [("openai", "sim-slow-first-token-3000")],
        "narrow": [("narrow", "sim-delay-1000")],
        "failing": [("openai", "sim-server-error")],
        "unauthorized": [("openai", "sim-unauthorized")],
        "quota": [("openai", "sim-quota")],
        "down": [("down", "sim-ok")],
        "mutual": [("mutual", "sim-ok")],
        "odd": [("openai", "sim-odd-usage-0")],
        "fallback": [("openai", "sim-overloaded"), ("azure", "sim-ok")],
        "tight": [("openai", "sim-ok")],
        "closed": [("openai", "sim-ok")],
        "unpriced": [("anthropic", "sim-ok")],
        "responses": [("openai", "sim-ok")],
        "messages": [("anthropic", "sim-ok")],
    }
    models = {
        name: {
            "routes": [
                {"provider": provider, "model": model, **({} if name == "unpriced" else {"price": PRICE})}
                for provider, model in upstreams
            ]
        }
        for name, upstreams in routes.items()
    }
    window = {"scope": "key", "window_seconds": 60}
    rules = [
        {"name": "key-rpm", "limit": 1_000_000, **window},
        {"name": "tight", "limit": 1, "models": ["tight"], **window},
        {"name": "shadow", "limit": 1, "models": ["chat"], "mode": "shadow", **window},
        {"name": "closed", "limit": 1_000, "models": ["closed"], "on_outage": "closed", **window},
        {
            "name": "usd", "scope": "key", "unit": "cost_usd", "limit": 1000, "window": "day", "time_zone": "UTC",
            "on_no_price": "warn",
        },
    ]  # fmt: skip
    return {
        "providers": providers,
        "models": models,
        "rate_limits": {"rules": rules},
        "policies": {"retry": {"max_attempts": 2, "base_seconds": 0.01}, "breaker": _BREAKER},
    }


@dataclass(frozen=True)
class Traffic:
    """A client of a gateway with that config file."""

    gateway: Gateway
    client: httpx.AsyncClient
    admin: Api
    key: str
    config_file: Path

    async def all_kinds(self) -> None:
        """Send each kind of request; nothing here waits for the gateway's clock."""
        await self.usual()
        await self._streams()
        await self._refused()
        await self._idempotent()
        await self._keys()
        await self._disconnect()
        await asyncio.gather(*(self.chat("narrow") for _ in range(8)))  # more than one at each of the two workers
        for model in ("failing", "unauthorized", "quota", "down", "fallback"):
            for _ in range(4):  # one more than opens the breaker
                await self.chat(model)

    async def usual(self) -> None:
        """Send a request to each model that works, and some that fail."""
        for model in ("chat", "azure", "anthropic", "odd", "unpriced", "tight", "closed", "fallback", "failing"):
            await self.chat(model)
        body = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "prompt_cache_key": "a"}
        await self._post("/v1/chat/completions", body)
        await self._post("/v1/embeddings", {"model": "embedding", "input": "Hello"})
        for route in (RESPONSES, MESSAGES):
            await self._post(route.path, route.body(model=route.name), **route.headers)
        await self.client.get(f"{self.gateway.base_url}/v1/models", headers=self._headers())

    async def chat(self, model: str, **headers: str) -> httpx.Response:
        return await self._post("/v1/platform/chat", {"prompt": "Hello", "model": model}, **headers)

    async def without_redis(self, valkey: EmbeddedValkey) -> None:
        """Send requests while Redis is frozen, one of them under a rule with `on_outage: closed`."""
        valkey.pause()
        try:
            for model in ("chat", "closed", "chat", "closed"):
                await self.chat(model)
            await self.chat("chat", **{"Idempotency-Key": "without Redis"})
        finally:
            valkey.resume()

    def change_config(self, **sections: Any) -> None:
        """Replace sections of the config file, in the way that operators do it."""
        beside = self.config_file.with_suffix(".new")
        beside.write_text(yaml.safe_dump({**yaml.safe_load(self.config_file.read_text()), **sections}))
        beside.replace(self.config_file)

    async def _post(self, path: str, body: Mapping[str, Any], **headers: str) -> httpx.Response:
        url = f"{self.gateway.base_url}{path}"
        return await self.client.post(url, json=body, headers={**self._headers(), **headers})

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def _streams(self) -> None:
        for model in ("chat", "azure", "anthropic", "late", "failing"):
            await self._post("/v1/platform/chat", {"prompt": "Hello you", "model": model, "stream": True})

    async def _refused(self) -> None:
        """Send invalid keys and bodies from one address, an unknown model, and bytes that are not HTTP."""
        for _ in range(6):
            await self.chat("chat", Authorization="Bearer nonsense", **ATTACKER)
        await self.chat(
            "chat", Authorization=f"Bearer {self.key[:-1]}{'b' if self.key[-1] == 'a' else 'a'}", **ATTACKER
        )
        await self.chat("nothing")
        await self._post("/v1/platform/chat", {})
        await self._post("/v1/platform/chat", {"prompt": "Hello", "conversation_id": self.key})
        await self._post("/v1/platform/chat", {"prompt": "x" * 200_000})
        reader, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(b"nonsense\r\n\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def _idempotent(self) -> None:
        for _ in range(2):
            await self.chat("chat", **{"Idempotency-Key": "same"})

    async def _keys(self) -> None:
        key_id, _ = await self.admin.created(owner="observability")
        await self.admin.rotate(key_id, 0)
        await self.admin.call("POST", f"/{key_id}/revoke", json={"reason": "a test"})
        await self.admin.call("POST", "/000000000000/revoke", json={"reason": "a test"})

    async def _disconnect(self) -> None:
        """Disconnect in the middle of a stream, and from a request with an Idempotency-Key."""
        body = {"prompt": "tokens: 200", "model": "slow", "stream": True}
        url = f"{self.gateway.base_url}/v1/platform/chat"
        async with self.client.stream("POST", url, json=body, headers=self._headers()) as response:
            async for _ in response.aiter_bytes():
                break
        content = json.dumps({"prompt": "Hello", "model": "late"}).encode()
        head = chat_head(self.key, "gone", "Idempotency-Key: gone", f"Content-Length: {len(content)}")
        _, writer = await asyncio.open_connection("127.0.0.1", self.gateway.port)
        writer.write(head + content)
        await writer.drain()
        await asyncio.sleep(0.5)
        writer.transport.abort()


def write_config(path: Path, content: Mapping[str, Any]) -> None:
    """Write the config file."""
    path.write_text(yaml.safe_dump(dict(content)))
