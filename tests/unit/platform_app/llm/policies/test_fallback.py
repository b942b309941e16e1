import random

import pytest
from structlog.testing import capture_logs

from platform_app.errors import (
    ContentFiltered,
    ContextLengthExceeded,
    Overloaded,
    PlatformError,
    ProviderAuthFailed,
    ProviderError,
    ProviderNotConfigured,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
)
from platform_app.llm.errors import BreakerOpen
from platform_app.llm.policies.choice.route_choice import RouteCandidate
from platform_app.llm.policies.fallback import Fallback, most_useful
from tests.support.fakes.core import Count
from tests.support.fakes.upstreams import (
    RESPONSE,
    ScriptedUpstream,
    SlowUpstream,
    Step,
    a_call,
    a_route,
)
from tests.support.timing.virtual_time import now, virtual_time


def choices(*steps: Step, weights: tuple[int | None, ...] = ()) -> tuple[list[RouteCandidate], list[ScriptedUpstream]]:
    """Create routes of the providers p0, p1 …, each with one step."""
    upstreams = [ScriptedUpstream(step) for step in steps]
    weights = weights or (None,) * len(steps)
    made = [
        RouteCandidate(a_route(f"p{number}", weight=weight), upstream)
        for number, (upstream, weight) in enumerate(zip(upstreams, weights, strict=True))
    ]
    return made, upstreams


class TestOrder:
    @virtual_time
    async def test_no_weights_sends_all_to_first_route(self) -> None:
        made, upstreams = choices(RESPONSE, RESPONSE)
        for _ in range(20):
            await Fallback(made).send(a_call())
        assert [upstream.calls for upstream in upstreams] == [20, 0]

    @virtual_time
    async def test_fallback_follows_config_order(self) -> None:
        made, upstreams = choices(ProviderError("a"), ProviderError("b"), RESPONSE, RESPONSE)
        assert await Fallback(made).send(a_call()) is RESPONSE
        assert [upstream.calls for upstream in upstreams] == [1, 1, 1, 0]

    @pytest.mark.parametrize(
        ("drawn", "order"),
        [
            (0.0, ["p1", "p3", "p0", "p2"]),
            (0.2499, ["p1", "p3", "p0", "p2"]),
            (0.25, ["p3", "p1", "p0", "p2"]),
            (0.9999999, ["p3", "p1", "p0", "p2"]),
        ],
    )
    @virtual_time
    async def test_drawn_route_then_weighted_then_rest(self, drawn: float, order: list[str]) -> None:
        error = ProviderError("x")
        made, _ = choices(error, error, error, error, weights=(None, 1, None, 3))
        with capture_logs() as lines, pytest.raises(ProviderError):
            await Fallback(made, lambda: drawn).send(a_call())
        assert [lines[0]["provider"], *(line["to_provider"] for line in lines)] == order

    @virtual_time
    async def test_weights_hold_within_5_percent_of_2000_calls(self) -> None:
        """Of all calls: three times the standard deviation is 3.4 % at most, and the seed is fixed."""
        made, upstreams = choices(RESPONSE, RESPONSE, RESPONSE, RESPONSE, weights=(70, 20, 10, None))
        fallback = Fallback(made, random.Random(7).random)
        for _ in range(2000):
            await fallback.send(a_call())
        shares = [upstream.calls / 2000 for upstream in upstreams]
        assert shares == [pytest.approx(0.7, abs=0.05), pytest.approx(0.2, abs=0.05), pytest.approx(0.1, abs=0.05), 0]


class TestGoingOn:
    @pytest.mark.parametrize(
        "error",
        [
            ProviderError("x"),
            ProviderTimeout("x"),
            ProviderQuotaExhausted("x"),
            ProviderAuthFailed("x"),
            ProviderNotConfigured("x"),
            Overloaded("x"),
            BreakerOpen("x"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @virtual_time
    async def test_failure_falls_back_to_next_route(self, error: PlatformError) -> None:
        made, upstreams = choices(error, RESPONSE)
        assert await Fallback(made).send(a_call()) is RESPONSE
        assert [upstream.calls for upstream in upstreams] == [1, 1]

    @pytest.mark.parametrize("error", [ContentFiltered("x"), ContextLengthExceeded("x"), KeyError("a bug")], ids=str)
    @virtual_time
    async def test_invalid_request_or_bug_is_raised_at_once(self, error: Exception) -> None:
        made, upstreams = choices(error, RESPONSE)
        with pytest.raises(type(error)) as caught:
            await Fallback(made).send(a_call())
        assert caught.value is error
        assert upstreams[1].calls == 0

    @virtual_time
    async def test_invalid_request_on_second_route_is_raised(self) -> None:
        made, upstreams = choices(ProviderError("x"), ContentFiltered("x"), RESPONSE)
        with pytest.raises(ContentFiltered):
            await Fallback(made).send(a_call())
        assert upstreams[2].calls == 0

    @virtual_time
    async def test_context_length_skips_routes_of_same_model(self) -> None:
        made, upstreams = choices(ContextLengthExceeded("x"), RESPONSE, RESPONSE)
        made[2] = RouteCandidate(a_route("p2", model="larger"), upstreams[2])
        with capture_logs() as lines:
            assert await Fallback(made).send(a_call()) is RESPONSE
        assert [upstream.calls for upstream in upstreams] == [1, 0, 1]
        assert [(line["to_model"], line["reason"]) for line in lines] == [("larger", "context_length_exceeded")]

    @virtual_time
    async def test_context_length_after_failure_raises_failure(self) -> None:
        """A client that retries later may reach the larger model, so its error does not say that the request is
        invalid."""
        made, upstreams = choices(ContextLengthExceeded("x"), ProviderTimeout("x"))
        made[1] = RouteCandidate(a_route("p1", model="larger"), upstreams[1])
        with pytest.raises(ProviderTimeout):
            await Fallback(made).send(a_call())

    @virtual_time
    async def test_passed_deadline_starts_no_route(self) -> None:
        upstreams = [SlowUpstream(10.0, ProviderTimeout("x")), ScriptedUpstream(RESPONSE)]
        made = [RouteCandidate(a_route(f"p{number}"), upstream) for number, upstream in enumerate(upstreams)]
        began = now()
        with pytest.raises(ProviderTimeout):
            await Fallback(made).send(a_call(10.0))
        assert now() - began == pytest.approx(10.0)
        assert upstreams[1].calls == 0

    @virtual_time
    async def test_fallback_is_counted_and_logged(self) -> None:
        counts = [
            Count("platform_provider_fallbacks_total", provider=provider, reason=reason)
            for provider, reason in (("p0", "breaker_open"), ("p1", "provider_error"), ("p2", "provider_error"))
        ]
        made, _ = choices(BreakerOpen("x"), ProviderError("x"), ProviderError("x"))
        call = a_call()
        with capture_logs() as lines, pytest.raises(PlatformError):
            await Fallback(made).send(call)
        hops = [(name, reason) for name, _, _, reason in call.attempt_log.record.hops]
        assert hops == [("fallback", "breaker_open"), ("fallback", "provider_error")]
        assert [count.grown for count in counts] == [1, 1, 0]  # the last route has no next one
        assert [(line["event"], line["provider"], line["to_provider"], line["reason"]) for line in lines] == [
            ("provider_fallback", "p0", "p1", "breaker_open"),
            ("provider_fallback", "p1", "p2", "provider_error"),
        ]
        assert lines[0]["model"] == "public"


class TestWhenAllFailed:
    def test_most_useful_error_has_shortest_wait(self) -> None:
        quota, limited = ProviderQuotaExhausted("x"), ProviderRateLimited("x", retry_after=7)
        soon = ProviderUnavailable("x", retry_after=1)
        assert most_useful([quota, limited, soon]) is soon
        assert most_useful([quota, limited]) is limited
        silent = ProviderUnavailable("x")  # the caller's Retry-After is one second
        assert most_useful([limited, silent]) is silent

    def test_most_useful_error_may_have_a_wait_of_zero(self) -> None:
        now, soon = ProviderRateLimited("x", retry_after=0), ProviderRateLimited("x", retry_after=0.5)
        assert most_useful([soon, now]) is now

    def test_most_useful_error_is_first_of_equal_waits(self) -> None:
        first, second = ProviderRateLimited("x", retry_after=2), ProviderUnavailable("x", retry_after=2)
        assert most_useful([ProviderAuthFailed("x"), first, second]) is first

    def test_most_useful_error_is_else_of_first_route(self) -> None:
        first, second = ProviderAuthFailed("x"), ProviderError("x")
        assert most_useful([first, second]) is first

    @virtual_time
    async def test_caller_gets_most_useful_error(self) -> None:
        limited = ProviderRateLimited("x", retry_after=7)
        made, _ = choices(ProviderError("x"), limited, ProviderTimeout("x"))
        with pytest.raises(ProviderRateLimited) as caught:
            await Fallback(made).send(a_call())
        assert caught.value is limited
