"""A route's work under an Idempotency-Key: which responses are stored, and when the key is freed."""

import asyncio
from dataclasses import replace

import orjson
import pytest
from starlette.responses import Response

from apps.platform_api.http.disconnect import ClientDisconnected
from apps.platform_api.http.middleware.response_headers import response_headers
from platform_app.errors import (
    IdempotencyUnavailable,
    ModelNotAllowed,
    ModelNotFound,
    PlatformError,
    ProviderRejectedRequest,
    ProviderTimeout,
    RateLimited,
    ValidationFailed,
)
from platform_app.rate_limit.limiter import Decision
from tests.support.fakes.core import Count
from tests.support.fakes.memory_store import MemoryStore
from tests.support.idempotency.route import POLICY, Route


async def test_request_without_key_passes_through(route: Route) -> None:
    for _ in range(2):
        await route.ask(Response(b"1"))
    assert route.worked == 2
    assert route.store.steps == []


async def test_replay_has_the_stored_headers_only(route: Route) -> None:
    async def work() -> Response:
        noted = route.context
        noted.provider, noted.upstream_model, noted.attempts = "sim", "m", 1
        noted.limits = Decision((), None)
        return Response(b'{"a":1}', media_type="application/json")

    first = await route.ask(work, "one")
    again = await route.ask(work, "one")
    assert route.worked == 1
    assert (again.status_code, again.body) == (first.status_code, first.body)
    assert sorted(again.raw_headers) == [
        (b"content-length", b"7"), (b"content-type", b"application/json"),
        (b"idempotency-replayed", b"true"), (b"x-platform-attempts", b"1"), (b"x-platform-model", b"m"),
        (b"x-platform-provider", b"sim"),
    ]  # fmt: skip
    assert (route.context.reason, route.context.decision) == ("idempotent_replay", "allow")
    assert response_headers(route.context) == []


async def test_replay_is_admitted_by_the_model_it_came_from(route: Route) -> None:
    """Which may be another one than the request would get today: it may have named none."""

    async def work() -> Response:
        route.context.model = "a-former-default"
        return Response(b"{}", media_type="application/json")

    await route.ask(work, "one")
    assert route.admitted == [], "the work itself is admitted elsewhere"
    await route.ask(work, "one")
    assert route.admitted == ["a-former-default"]


@pytest.mark.parametrize("refusal", [RateLimited("r", retry_after=9), ModelNotAllowed("m"), ModelNotFound("n")])
async def test_refused_replay_returns_the_refusal(route: Route, refusal: PlatformError) -> None:
    counts = {name: Count("platform_idempotency_total", outcome=name) for name in ("replayed", "replay_refused")}
    await route.ask(Response(b"{}"), "one")
    route.refusal = refusal
    with pytest.raises(type(refusal)):
        await route.ask(Response(b"{}"), "one")
    assert route.context.reason is None
    route.refusal = None
    assert (await route.ask(Response(b"{}"), "one")).body == b"{}"
    assert route.worked == 1
    assert {name: count.grown for name, count in counts.items()} == {"replayed": 1, "replay_refused": 1}


@pytest.mark.parametrize(
    "error",
    [
        ProviderTimeout("slow"), RateLimited("much", retry_after=1), ModelNotAllowed("no"),
        RuntimeError("a bug"), ClientDisconnected(), asyncio.CancelledError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_work_without_a_response_frees_the_key(route: Route, error: BaseException) -> None:
    if isinstance(error, PlatformError):
        response = await route.ask(error, "one")
        assert response.status_code == error.status
        assert route.context.reason == error.code
    else:
        with pytest.raises(type(error)):
            await route.ask(error, "one")
    assert route.store.records == {}
    assert route.store.steps == ["begin", "release"]


async def test_provider_refusal_is_stored_as_rendered(route: Route) -> None:
    first = await route.ask(ProviderRejectedRequest("no", details=["why"]), "one")
    again = await route.ask(ProviderRejectedRequest("no", details=["why"]), "one")
    assert route.worked == 1
    assert (again.status_code, again.body) == (400, first.body)
    assert orjson.loads(bytes(first.body))["error"]["details"] == ["why"]


@pytest.mark.parametrize("keys", [("",), ("x" * 256,), ("a\x7f",), ("ä",), ("a", "b")])
async def test_malformed_key_is_refused(route: Route, keys: tuple[str, ...]) -> None:
    with pytest.raises(ValidationFailed):
        await route.ask(Response(), *keys)
    assert route.worked == 0
    assert route.store.steps == []


async def test_repeated_header_with_one_key_is_accepted(route: Route) -> None:
    await route.ask(Response(b"1"), "a", "a")
    assert len(route.kept) == 1


async def test_unavailable_store_refuses_or_is_reported(route: Route) -> None:
    route.store.down = True
    with pytest.raises(IdempotencyUnavailable):
        await route.ask(Response(b"1"), "one")
    assert route.worked == 0
    open_route = Route(MemoryStore(), replace(POLICY, refuse_when_unavailable=False))
    open_route.store.down = True
    response = await open_route.ask(Response(b"1"), "one")
    assert response.body == b"1"
    assert response_headers(open_route.context) == [(b"idempotency-unavailable", b"true")]
    # The header describes the moment; it is not stored with the response.
    open_route.store.down = False
    await open_route.ask(Response(b"1"), "one")
    await open_route.ask(Response(b"1"), "one")
    assert not open_route.context.idempotency_unavailable
    assert open_route.worked == 2


# --- streams
