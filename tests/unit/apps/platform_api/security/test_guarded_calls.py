"""What a guard lets through, what it charges, and what it notes about the caller."""

from collections.abc import Mapping
from types import SimpleNamespace

import pytest
from fastapi import Request
from starlette.responses import Response

from apps.platform_api.http.model.route import ModelRoute
from apps.platform_api.security.guard import Guard, LimitedBy
from platform_app.auth.caller import Caller
from platform_app.auth.permissions import Scope
from platform_app.config import LimitRule
from platform_app.errors import InsufficientScope, InvalidApiKey, RateLimited, ValidationFailed
from platform_app.observability.context import ClientContract
from platform_app.observability.record import AUTH, OK
from platform_app.rate_limit.limiter import Decision, RuleState
from platform_app.rate_limit.matching import Charge, LimitedRequest, RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import FakeLimiter, context

CALLER = Caller("k" * 12, "batch", "team-a", "test", frozenset({"platform:chat"}), limits={"key-rpm": 7})
RULE = LimitRule(name="key-rpm", scope="key", limit=60, window_seconds=60, routes=["/v1/embeddings"])


class OneKey:
    """An authenticator that knows the key of CALLER."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    async def authenticate(self, key: str, address: str) -> Caller:
        self.addresses.append(address)
        if key != "good":
            raise InvalidApiKey
        return CALLER


class Call:
    """One request to `POST /v1/embeddings` with the key of CALLER."""

    def __init__(self) -> None:
        self.authenticator = OneKey()
        self.limiter = FakeLimiter()
        self.limits = RateLimitService(RuleBook([RULE]), self.limiter)
        self.context = context(route="unmatched")

    async def through(self, guard: Guard, *, query: bytes = b"", key: str = "good") -> Caller:
        return await guard(self.request(guard, query, key))

    def request(self, guard: Guard, query: bytes, key: str) -> Request:
        resources = SimpleNamespace(authenticator=self.authenticator, limits=self.limits)
        return Request({
            "type": "http", "headers": [(b"x-api-key", key.encode())], "query_string": query,
            "route": ModelRoute("/v1/embeddings", guard, _handler, {}),
            "state": {"resources": resources, "context": self.context},
        })  # fmt: skip

    async def deny(self) -> None:
        """Let the limiter deny one request of CALLER, so that the denial is remembered."""
        self.limiter.deny_seconds = 30.0
        with pytest.raises(RateLimited):
            await self.limits.charge(_limited(CALLER.limits), context())
        self.limiter.asked.clear()


async def _handler(request: Request, caller: Caller) -> Response:
    return Response()


def _limited(limits: Mapping[str, float]) -> LimitedRequest:
    return LimitedRequest(CALLER.key_id, CALLER.owner, "/v1/embeddings", limits=limits)


@pytest.fixture
def call() -> Call:
    return Call()


async def test_caller_is_returned_and_noted(call: Call) -> None:
    assert await call.through(Guard(Scope.CHAT)) is CALLER
    assert call.authenticator.addresses == ["127.0.0.1"]
    noted = call.context
    assert (noted.route, noted.key_id, noted.owner) == ("/v1/embeddings", CALLER.key_id, "team-a")


async def test_authentication_is_a_hop_before_the_limits(call: Call) -> None:
    await call.through(Guard(Scope.CHAT))
    [(name, began, ended, outcome), limits] = call.context.record.hops
    assert (name, outcome) == (AUTH, OK)
    assert began <= ended <= limits[1]


async def test_unknown_key_is_refused_and_charges_nothing(call: Call) -> None:
    with pytest.raises(InvalidApiKey):
        await call.through(Guard(Scope.CHAT), key="bad")
    assert call.context.route == "/v1/embeddings"
    assert call.context.key_id is None
    assert call.limiter.asked == []


async def test_key_without_the_scope_is_refused(call: Call) -> None:
    with pytest.raises(InsufficientScope) as caught:
        await call.through(Guard(Scope.EMBEDDINGS))
    assert Scope.EMBEDDINGS in caught.value.message
    assert call.context.key_id == CALLER.key_id  # whose key it was is in the access line
    assert call.limiter.asked == []


async def test_guard_without_scope_takes_every_key(call: Call) -> None:
    assert await call.through(Guard(None)) is CALLER


async def test_guard_charges_the_key_by_its_own_limit(call: Call) -> None:
    await call.through(Guard(Scope.CHAT))
    [[charge]] = call.limiter.asked
    assert (charge.rule.name, charge.rule.limit) == ("key-rpm", 7)
    assert charge.usage == _limited(CALLER.limits)
    assert call.context.limits is not None


async def test_guard_passes_on_the_refusal_of_its_limiter(call: Call) -> None:
    call.limiter.deny_seconds = 30.0
    with pytest.raises(RateLimited):
        await call.through(Guard(Scope.CHAT))


@pytest.mark.parametrize("limited_by", [LimitedBy.CHAT_SERVICE, LimitedBy.NOTHING_CHARGED])
async def test_guard_leaves_the_charge_to_others(call: Call, limited_by: LimitedBy) -> None:
    call.limiter.deny_seconds = 30.0
    assert await call.through(Guard(Scope.CHAT, limited_by)) is CALLER
    assert call.limiter.asked == []


async def test_remembered_denial_refuses_a_call_of_a_model(call: Call) -> None:
    """Before the body is read, and without the limiter."""
    await call.deny()
    with pytest.raises(RateLimited):
        await call.through(Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE))
    assert call.limiter.asked == []


async def test_remembered_denial_does_not_hide_the_limits(call: Call) -> None:
    """A caller whose limit is reached can still read it."""
    await call.deny()
    assert await call.through(Guard(Scope.CHAT, LimitedBy.NOTHING_CHARGED)) is CALLER


async def test_nothing_is_matched_where_no_denial_is_remembered(call: Call) -> None:
    """The usual case: the rules are matched once, by the chat service."""
    matched: list[LimitedRequest] = []

    class WatchedRules(RuleBook):
        def charges(self, usage: LimitedRequest) -> list[Charge]:
            matched.append(usage)
            return super().charges(usage)

    call.limits = RateLimitService(WatchedRules([RULE]), call.limiter)
    await call.through(Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE))
    assert matched == []


async def test_denial_of_another_limit_is_not_remembered_for_it(call: Call) -> None:
    """A raised limit applies at once: the remembered denial was by the old one."""
    [charge] = call.limits.rules.charges(_limited({"key-rpm": 5}))
    state = RuleState(charge.rule, 0, 30.0)
    call.limits.known_denials.note([charge], Decision((state,), state))
    assert await call.through(Guard(Scope.CHAT, LimitedBy.CHAT_SERVICE)) is CALLER


async def test_unknown_query_parameter_is_refused_before_the_charge(call: Call) -> None:
    with pytest.raises(ValidationFailed) as caught:
        await call.through(Guard(Scope.CHAT), query=b"limit=1")
    assert caught.value.param == "limit"
    assert call.limiter.asked == []


@pytest.mark.parametrize("contract", [ClientContract.PLATFORM, ClientContract.ANTHROPIC])
async def test_api_version_is_for_clients_of_openai_only(call: Call, contract: ClientContract) -> None:
    call.context.contract = ClientContract.OPENAI
    assert await call.through(Guard(Scope.CHAT), query=b"api-version=1") is CALLER
    call.context.contract = contract
    with pytest.raises(ValidationFailed):
        await call.through(Guard(Scope.CHAT), query=b"api-version=1")
