"""Requests with canaries over the routes of the clients' formats."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from apps.provider_simulator.faults.catalog import MODELS
from tests.support.gateway.chat_routes import CHAT, CLIENT_ROUTES, MESSAGES, RESPONSES, ChatRoute
from tests.support.observability.canary_bodies import CARRYING, PROMPT, WIDE, unfit_bodies
from tests.support.observability.planted_bug import BUG_MODEL

ENDLESS = ("sim-huge-body", "sim-huge-line")
ASKED_OVER: list[tuple[ChatRoute, tuple[str, ...]]] = [
    (CHAT, ("", "azure/", "anthropic/")),
    (RESPONSES, ("responses/", "anthropic/")),
    (MESSAGES, ("anthropic/", "")),
]
"""The provider formats over which each route meets every fault: its own, and others. The empty one is OpenAI's."""
_FORMATS = ("", "azure/", "anthropic/", "responses/")
_STREAMS = (False, True)


class Ask(Protocol):
    """Sends a request and keeps everything that comes back under a name."""

    def __call__(self, what: str, body: Any, headers: dict[str, str], path: str) -> Awaitable[None]:
        """Send the body, as JSON if it is not bytes."""
        ...


async def ask_over_client_routes(ask: Ask, keys: Mapping[str, str]) -> None:
    """Send requests of every kind. `keys`: credentials of every kind by name; `good` is accepted."""
    good = {"Authorization": f"Bearer {keys['good']}"}
    for route, formats in ASKED_OVER:
        await asyncio.gather(
            *(
                ask(
                    f"{route.name}: {each}{name} {stream}",
                    route.body(PROMPT, model=f"{each}{name}", stream=stream),
                    good,
                    route.path,
                )
                for each in formats
                for name in MODELS
                for stream in _STREAMS
                if name not in ENDLESS
            )
        )
    for route in CLIENT_ROUTES:
        await _ask_wide(ask, route, good)
    for route in (RESPONSES, MESSAGES):
        await _ask_unfit(ask, route, good)
        await _ask_with_keys(ask, route, keys)
        await ask(f"{route.name}: a bug", route.body(PROMPT, model=BUG_MODEL), good, route.path)
    counted = {name: value for name, value in WIDE["messages"].items() if name != "max_tokens"}
    for model in ("sim-ok", "anthropic/sim-ok", "anthropic/sim-unauthorized", "responses/sim-server-error"):
        await ask(f"count of {model}", {**counted, "model": model}, good, "/v1/messages/count_tokens")


async def _ask_wide(ask: Ask, route: ChatRoute, good: dict[str, str]) -> None:
    for each in _FORMATS:
        for stream in _STREAMS:
            for what, bodies in (("wide", WIDE), ("carrying", CARRYING)):
                body = {**bodies[route.name], "model": f"{each}sim-ok", "stream": stream}
                await ask(f"{route.name}: {what}: {each}{stream}", body, good, route.path)


async def _ask_unfit(ask: Ask, route: ChatRoute, good: dict[str, str]) -> None:
    for what, body in unfit_bodies(route.name).items():
        for each in ("", "anthropic/", "responses/"):
            sent = body if isinstance(body, bytes) else {"model": f"{each}sim-ok", **body}
            await ask(f"{route.name}: {what}: {each}", sent, good, route.path)


async def _ask_with_keys(ask: Ask, route: ChatRoute, keys: Mapping[str, str]) -> None:
    body = route.body(PROMPT, model="sim-ok")
    for name, key in keys.items():
        await ask(f"{route.name}: key: {name}", body, {"X-API-Key": key, **route.headers}, route.path)
    once = {"Authorization": f"Bearer {keys['good']}", "Idempotency-Key": f"{PROMPT}-{keys['good']}"}
    for attempt in (1, 2):
        await ask(f"{route.name}: once, {attempt}", body, once, route.path)
