"""One request from the client's bytes to the provider's and back, in process."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from fastapi import Request
from starlette.types import Message, Receive, Scope, Send

from apps.platform_api.http.body.request_body import BodyBudget, BodyLimits
from apps.platform_api.http.middleware.request import RequestLimits, RequestMiddleware
from apps.platform_api.http.model.route import ModelRoute, ModelRoutes
from apps.platform_api.http.request_state import context_of, route_template
from apps.platform_api.main import MODEL_ROUTES
from apps.platform_api.server.state import ServerState
from platform_app.auth.caller import Caller
from platform_app.auth.pepper import Peppers
from platform_app.chat import ChatService
from platform_app.config import LimitRule, ProviderConfig
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.models.provider_route import ProviderRoute
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.providers.factory import make_adapter
from platform_app.llm.usage.pricing import FlatPrice
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import FakeLedger, FakeLimiter
from tests.support.gateway.in_process.provider import Script, ScriptedPool

CALLER = Caller("k" * 12, "in-process", "team-a", "test", frozenset({"platform:chat"}))
KEY = "sk-in-process-51f0a9c2"
PRICE = FlatPrice(1.0, 4.0, 0.5, 1.0, 1.0)
WIRES = ("openai", "azure", "openai-responses", "anthropic")
_VERSIONS = {"azure": "2024-10-21"}
_LIMITS = BodyLimits(1 << 24, 60.0)


@dataclass(frozen=True)
class Reply:
    """What the client got."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    complete: bool
    """Whether the response ended; else its connection is closed in the middle."""

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


class InProcessGateway:
    """A gateway with the model `m`, whose only route is a scripted provider of one wire format."""

    def __init__(self, wire: str, upstream_model: str = "up", rules: Sequence[LimitRule] = (), **provider: Any) -> None:
        self.provider = ScriptedPool()
        self.ledger = FakeLedger()
        self.limiter = FakeLimiter()
        self.server = ServerState()
        self.caller = CALLER
        config = ProviderConfig.model_validate(
            {"wire_format": wire, "base_url": "http://provider/v1", "api_version": _VERSIONS.get(wire), **provider}
        )
        pool: Any = self.provider
        adapter = make_adapter(config, pool, ProviderLimits(30.0, 30.0, 1 << 25))
        route = Route(
            "m", wire, upstream_model, "KEY", allow_fields=frozenset(config.allow_fields), price=PRICE,
            stores_responses=config.stores_responses,
        )  # fmt: skip
        models = {"m": ServedModel("m", (route,), ProviderRoute(route, adapter, _Credentials()))}
        limits = RateLimitService(RuleBook(list(rules)), self.limiter)
        chat = ChatService(ModelRegistry(models, "m"), limits, self.ledger, 60.0)
        resources = SimpleNamespace(
            chat=chat,
            peppers=_Peppers(),
            ledger=self.ledger,
            settings=SimpleNamespace(stream_keep_alive_seconds=60.0, write_timeout_seconds=30.0),
        )
        self._state = {"resources": resources, "server": self.server}
        routes = [ModelRoute(each.path, self._admit, each._handler, each._documentation) for each in MODEL_ROUTES]  # type: ignore[arg-type]
        limits_of_requests = RequestLimits(_LIMITS, BodyBudget(1 << 26, 1 << 26), 1000)
        self._app = RequestMiddleware(ModelRoutes(_nothing, routes), self.server, limits_of_requests)

    async def _admit(self, request: Request) -> Caller:
        """Stand in for the guard."""
        context = context_of(request)
        context.key_id, context.route = self.caller.key_id, route_template(request.scope)
        return self.caller

    async def ask(
        self,
        path: str,
        body: Mapping[str, Any],
        script: Script | None = None,
        headers: Mapping[str, str] | None = None,
        leaves: asyncio.Event | None = None,
    ) -> Reply:
        """Send a request, and return everything that the client gets. The client disconnects when `leaves` is set."""
        if script is not None:
            self.provider.script = script
        content = json.dumps(body).encode()
        sent = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
        scope: Scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
            "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1), "server": ("gateway", 80),
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "state": dict(self._state),
        }  # fmt: skip
        client = _Client(content, leaves or asyncio.Event())
        await self._app(scope, client.receive, client.send)
        return client.reply()


class _Peppers:
    async def current(self) -> Peppers:
        return Peppers({1: b"p" * 32}, 1)


class _Credentials:
    async def get(self, name: str) -> str:
        return KEY

    async def refresh(self, name: str, rejected: str) -> str:
        return rejected


class _Client:
    def __init__(self, content: bytes, leaves: asyncio.Event) -> None:
        self._content: bytes | None = content
        self._leaves = leaves
        self._status = 0
        self._headers: dict[str, str] = {}
        self._parts: list[bytes] = []
        self._complete = False

    async def receive(self) -> Message:
        content, self._content = self._content, None
        if content is None:
            await self._leaves.wait()
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        self._parts.append(message.get("body", b""))
        self._complete = not message.get("more_body", False)

    def reply(self) -> Reply:
        return Reply(self._status, self._headers, b"".join(self._parts), self._complete)


async def _nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError(f"no model route has the path {scope['path']}")
