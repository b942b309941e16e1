"""A model without a price does not escape a budget (issue 11, "What has no price does not escape")."""

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from apps.platform_cli.checks.prices import price_checks
from platform_app.auth.caller import Caller
from platform_app.chat import ChatService
from platform_app.config import LimitRule, PlatformConfig
from platform_app.errors import BudgetExceeded, PriceUnknown
from platform_app.ledger.events.usage_record import UsageRecord
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelRequest
from platform_app.llm.responses import ModelResponse
from platform_app.llm.usage.pricing import FlatPrice
from platform_app.rate_limit.limiters.local import LocalLimiter
from platform_app.rate_limit.matching import RuleBook
from platform_app.rate_limit.service import RateLimitService
from tests.support.fakes.core import Count, FakeLedger, FakeUpstream, context

PRICE = {"input_usd_per_million": 10, "output_usd_per_million": 100}
USAGE = {"prompt_tokens": 7, "completion_tokens": 30, "total_tokens": 37}
CALLER = Caller("k" * 12, "batch", "team-a", "test", frozenset({"platform:chat"}))
KNOWN = Route("m", "openai", "up-known", price=FlatPrice(1.0, 4.0, 0.5, 1.0, 1.0))
UNKNOWN = Route("m", "vllm", "up-unknown")


def budget(**fields: Any) -> LimitRule:
    return LimitRule.model_validate(
        {"name": "usd", "scope": "key", "unit": "cost_usd", "limit": 1, "window_seconds": 60, **fields}
    )


class Serving:
    """Return one model, whose last route responds, behind these rules."""

    def __init__(self, *rules: LimitRule, routes: tuple[Route, ...] = (UNKNOWN,)) -> None:
        self.upstream = FakeUpstream(routes[-1])
        message = {"role": "assistant", "content": "x" * 90}
        self.upstream.completion = ModelResponse(b"", {"choices": [{"message": message}], "usage": USAGE})
        models = ModelRegistry({"m": ServedModel("m", routes, self.upstream)}, "m")
        self.limiter = LocalLimiter(processes=1)
        self.gate = RateLimitService(RuleBook(rules), self.limiter)
        self.ledger = FakeLedger()
        self.chat = ChatService(models, self.gate, self.ledger, 60.0)

    async def send(self, caller: Caller = CALLER) -> None:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000}
        await self.chat.send(ModelRequest("m", body), caller, context())

    @property
    def used(self) -> int:
        """Millionths of a dollar."""
        [counter] = self.limiter._counters.values()
        assert counter.reserved == 0
        return counter.total


async def test_budget_refuses_model_without_price() -> None:
    serving = Serving(budget())
    refused = Count("platform_budget_unpriced_total", rule="usd", action="refused")
    with (
        capture_logs() as logs,
        pytest.raises(PriceUnknown, match="'usd' applies, and the price of the model 'm'") as e,
    ):
        await serving.send()
    assert (e.value.code, e.value.status, e.value.retry_after) == ("price_unknown", 403, None)
    assert "vllm/up-unknown" in e.value.message
    assert serving.upstream.calls == []
    assert refused.grown == 1
    assert [line["action"] for line in logs if line["event"] == "budget_price_unknown"] == ["refused"]


async def test_budget_refuses_if_one_route_has_no_price() -> None:
    """Any route may serve the request, so a fallback without a price would escape the budget."""
    for routes in ((KNOWN, UNKNOWN), (UNKNOWN, KNOWN)):
        with pytest.raises(PriceUnknown):
            await Serving(budget(), routes=routes).send()
    await Serving(budget(), routes=(KNOWN,)).send()


async def test_price_of_zero_is_known() -> None:
    free = replace(UNKNOWN, price=FlatPrice(0, 0, 0, 0, 0))
    serving = Serving(budget(), routes=(free,))
    await serving.send()
    assert serving.used == 0


async def test_warning_budget_allows_and_logs() -> None:
    serving = Serving(budget(on_no_price="warn"))
    warned = Count("platform_budget_unpriced_total", rule="usd", action="warned")
    with capture_logs() as logs:
        await serving.send()
        await serving.send()
    assert (warned.grown, serving.used) == (2, 0)
    told = [line for line in logs if line["event"] == "budget_price_unknown"]
    assert [(line["rule"], line["model"], line["routes"]) for line in told] == [("usd", "m", "vllm/up-unknown")]


async def test_budget_counts_at_stated_price() -> None:
    serving = Serving(budget(on_no_price=PRICE))
    counted = Count("platform_budget_unpriced_total", rule="usd", action="counted")
    await serving.send()
    assert (counted.grown, serving.used) == (1, 7 * 10 + 30 * 100)
    [record] = serving.ledger.events
    assert isinstance(record, UsageRecord)
    assert record.cost_microusd is None, "a budget's own price is no known price"


async def test_stated_price_is_reserved_before_call() -> None:
    with pytest.raises(BudgetExceeded):
        await Serving(budget(on_no_price={**PRICE, "output_usd_per_million": 1001})).send()


async def test_known_routes_keep_their_own_price() -> None:
    serving = Serving(budget(on_no_price=PRICE), routes=(UNKNOWN, KNOWN))
    await serving.send()
    assert serving.used == 7 + 30 * 4


async def test_other_rules_refuse_nothing() -> None:
    others = (
        budget(models=["other"]),
        budget(mode="shadow"),
        budget(limit=None),
        LimitRule(name="tpm", scope="key", unit="tokens", limit=100_000, window_seconds=60),
    )
    for rule in others:
        await Serving(rule).send()
    own = replace(CALLER, limits={"usd": 5.0})
    with pytest.raises(PriceUnknown):
        await Serving(budget(limit=None)).send(own)


async def test_on_no_price_is_set_per_rule() -> None:
    with pytest.raises(PriceUnknown, match="'second'"):
        await Serving(budget(on_no_price="warn"), budget(name="second", limit=2, window_seconds=90)).send()


@pytest.mark.parametrize("unit", ["requests", "tokens"])
def test_on_no_price_is_only_for_cost_rules(unit: str) -> None:
    with pytest.raises(ValidationError, match="on_no_price is for cost_usd"):
        budget(unit=unit, on_no_price="warn")


@pytest.mark.parametrize("odd", ["ignore", 5, {}, {"input_usd_per_million": -1, "output_usd_per_million": 1}])
def test_invalid_on_no_price_is_refused(odd: object) -> None:
    with pytest.raises(ValidationError, match="on_no_price"):
        budget(on_no_price=odd)


def config(*rules: dict[str, Any], price: dict[str, Any] | None = None) -> PlatformConfig:
    route = {"provider": "vllm", "model": "qwen"} | ({"price": price} if price else {})
    known = {"provider": "openai", "model": "gpt-4o-mini"}
    return PlatformConfig.model_validate(
        {
            "providers": {
                "vllm": {"base_url": "http://vllm.example:8000/v1"},
                "openai": {"base_url": "https://api.openai.com/v1"},
            },
            "models": {"mine": {"routes": [known, route]}, "other": {"routes": [known]}},
            "rate_limits": {"rules": list(rules)} if rules else {},
        }
    )


def rule(**fields: Any) -> dict[str, Any]:
    return {"name": "usd", "scope": "key", "unit": "cost_usd", "limit": 1, "window_seconds": 60, **fields}


@pytest.mark.parametrize(
    ("rules", "ok", "required", "says"),
    [
        ([rule()], False, True, "rule 'usd' refuses"),
        ([rule(mode="shadow")], False, False, "rule 'usd' counts it as nothing"),
        ([rule(on_no_price="warn")], False, False, "rule 'usd' counts it as nothing"),
        ([rule(on_no_price=PRICE)], True, True, "at its own price"),
        ([rule(models=["other"])], True, False, "no budget applies"),
        ([], True, False, "no budget applies"),
    ],
)
def test_check_names_each_route_without_price(rules: list[dict[str, Any]], ok: bool, required: bool, says: str) -> None:
    [check] = price_checks(config(*rules))
    assert (check.name, check.ok, check.required) == ("price of mine", ok, required)
    assert "route vllm/qwen: no price is known" in check.detail
    assert says in check.detail


def test_check_names_each_rule() -> None:
    found = price_checks(config(rule(), rule(name="second", limit=2, window_seconds=90, on_no_price="warn")))
    assert ["'usd'" in each.detail for each in found] == [True, False]
    assert ["'second'" in each.detail for each in found] == [False, True]


def test_check_reports_that_all_prices_are_known() -> None:
    [check] = price_checks(config(rule(), price=PRICE))
    assert (check.name, check.ok) == ("prices", True)
