"""The scenarios against a gateway as operators run it, and the page with their verdicts."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.conftest import GENEROUS, Platform
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.paths import ROOT
from tests.support.providers.failover.faulty_provider import TEXT, Call, FaultyProvider
from tests.support.providers.failover.scenarios import (
    CONTENTLESS,
    FIRST_TOKEN_SECONDS,
    FLAPPING,
    FLAPPING_TITLE,
    SCENARIOS,
    TRUNCATED,
    Scenario,
    no_prefill,
    overloaded,
)
from tests.support.providers.failover.verdicts import Check, Response, Seen, Verdict, alive, ask, elapsed_since, judge

PAGE = ROOT / "docs" / "resilience.md"
DOWN_REQUESTS, RECOVERY_SECONDS = 10, 60.0
IDLE_SECONDS = 4
BREAKER = {"failure_ratio": 0.5, "minimum_calls": 6, "window_seconds": 60, "open_seconds": 1, "probes": 1}


async def _flapping(call: Call) -> None:
    await (overloaded(call) if _flapping_provider.down else call.good())


_flapping_provider = FaultyProvider(
    {
        **{f"{name}-primary": scenario.fault for name, scenario in SCENARIOS.items()},
        f"{FLAPPING}-primary": _flapping,
        "no-prefill": no_prefill,
        **{name: fault for name, (fault, _) in TRUNCATED.items()},
        **CONTENTLESS,
    }
)


@pytest.fixture(scope="module")
async def running_provider() -> AsyncIterator[FaultyProvider]:
    """Run the provider for all scenarios."""
    async with _flapping_provider as running:
        yield running


@pytest.fixture
def provider(running_provider: FaultyProvider) -> FaultyProvider:
    """Reset the provider before each test."""
    running_provider.reset()
    return running_provider


@pytest.fixture(scope="module")
def failing_over(
    platform: Platform, running_provider: FaultyProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway with a model for each scenario: the primary route, then the fallback. Retries are the defaults."""
    directory = tmp_path_factory.mktemp("failover")
    models = {name: [("faulty", f"{name}-primary"), ("faulty", each.fallback)] for name, each in SCENARIOS.items()}
    models |= {name: [("faulty", name)] for name in TRUNCATED}
    models |= {name: [(name.partition("-start")[0], name), ("faulty", "healthy")] for name in CONTENTLESS}
    models |= {FLAPPING: [("faulty", f"{FLAPPING}-primary"), ("faulty", "healthy")], "healthy": [("faulty", "healthy")]}
    config = write_catalog(
        directory / "platform.yaml",
        {
            **{name: {"base_url": running_provider.base_url} for name in ("faulty", "role-only", "comments-only")},
            "anthropic": {"wire_format": "anthropic", "base_url": running_provider.url_of("anthropic")},
        },
        models,
        route_fields={
            **{name: {"first_token_seconds": FIRST_TOKEN_SECONDS} for name in CONTENTLESS},
            **{
                f"{name}-primary": {"first_token_seconds": scenario.first_token_seconds}
                for name, scenario in SCENARIOS.items()
                if scenario.first_token_seconds is not None
            },
        },
        rate_limits=GENEROUS,
        policies={"breaker": BREAKER},
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "healthy",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": str(IDLE_SECONDS),
    }
    with Gateway(environment, directory) as running:
        yield running


def seen(response: Response, provider: FaultyProvider, name: str, fallback: str, alive_after: bool) -> Seen:
    return Seen(
        response.status,
        response.text,
        response.error_code,
        response.model,
        response.usage,
        provider.of(f"{name}-primary"),
        provider.of(fallback),
        alive_after,
    )


@pytest.mark.parametrize("name", SCENARIOS)
async def test_scenario_gets_documented_verdict(
    name: str, failing_over: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, chat_key: str
) -> None:
    scenario: Scenario = SCENARIOS[name]
    response = await ask(client, failing_over, chat_key, name, stream=True)
    observed = seen(response, provider, name, scenario.fallback, alive_after=True)
    lives = await alive(client, failing_over, chat_key)
    checks = [*scenario.checks(observed), Check("healthy afterwards", lives)]
    verdict, broken = judge(observed, checks, ideal_error=scenario.ideal_error)
    assert (verdict, broken) == (scenario.verdict, []), observed
    if scenario.verdict is Verdict.SAFE:
        assert observed.error_code == scenario.error_code


WHOLE = ("S01", "S02", "S03", "S04", "S05", "S12", "S13", "S16")


@pytest.mark.parametrize("name", WHOLE)
async def test_scenario_without_stream_gets_same_verdict(
    name: str, failing_over: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, chat_key: str
) -> None:
    scenario = SCENARIOS[name]
    response = await ask(client, failing_over, chat_key, name, stream=False)
    observed = seen(response, provider, name, scenario.fallback, alive_after=True)
    verdict, broken = judge(observed, scenario.checks(observed), ideal_error=scenario.ideal_error)
    assert (verdict, broken) == (Verdict.PASS, []), observed


@pytest.mark.parametrize("name", CONTENTLESS)
async def test_stream_without_content_falls_back(
    name: str, failing_over: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, chat_key: str
) -> None:
    """Its head, a role, a comment or a ping is not the first token."""
    response = await ask(client, failing_over, chat_key, name, stream=True)
    assert (response.text, response.model) == (TEXT, "healthy")
    [attempt] = provider.of(name)
    assert attempt.client_gone.is_set()


@pytest.mark.parametrize("name", TRUNCATED)
async def test_truncated_response_is_not_shown_as_complete(
    name: str, failing_over: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, chat_key: str
) -> None:
    response = await ask(client, failing_over, chat_key, name, stream=TRUNCATED[name][1])
    assert response.error_code == "provider_bad_response"


async def test_flapping_primary_is_left_and_used_again(
    failing_over: Gateway, provider: FaultyProvider, client: httpx.AsyncClient, chat_key: str
) -> None:
    """S15: all requests succeed while the primary is down, few reach it then, and it is used again after it
    recovered."""
    primary = f"{FLAPPING}-primary"
    provider.down = True
    while_down = [await ask(client, failing_over, chat_key, FLAPPING, stream=True) for _ in range(DOWN_REQUESTS)]
    assert [response.text for response in while_down] == [TEXT] * DOWN_REQUESTS
    assert len(provider.of(primary)) < 3 * DOWN_REQUESTS, "the breaker spares it retries"
    provider.down = False
    began, model = time.monotonic(), None
    while model != primary:
        response = await ask(client, failing_over, chat_key, FLAPPING, stream=True)
        assert response.text == TEXT
        model = response.model
        assert elapsed_since(began) < RECOVERY_SECONDS, "it is not asked again"
        await asyncio.sleep(0.1)


class TestJudging:
    """These tests check the rules of the verdicts."""

    good = Seen(200, TEXT, None, "m", {"total_tokens": 1}, [], [])

    @pytest.mark.parametrize(
        ("checks", "verdict"),
        [
            ([], Verdict.PASS),
            ([Check("a", holds=False, advisory=True)], Verdict.PARTIAL),
            ([Check("a", holds=False)], Verdict.FAIL),
        ],
    )
    def test_good_response_gets_verdict_from_checks(self, checks: list[Check], verdict: Verdict) -> None:
        assert judge(self.good, checks)[0] is verdict

    def test_truncated_success_and_hang_get_fail(self) -> None:
        assert judge(Seen(200, "word0", None, "m", None, [], []), [])[0] is Verdict.FAIL
        assert judge(Seen(0, "", None, None, None, [], []), [])[0] is Verdict.FAIL

    def test_clean_error_gets_safe_or_ideal(self) -> None:
        error = Seen(400, "", "content_filtered", None, None, [], [])
        assert judge(error, [])[0] is Verdict.SAFE
        assert judge(error, [], ideal_error="content_filtered")[0] is Verdict.PASS
        assert judge(self.good, [], ideal_error="content_filtered")[0] is Verdict.PARTIAL


def test_resilience_page_shows_tested_verdicts() -> None:
    """At least twelve pass, none is partial, none fails."""
    rows = re.findall(r"^\| (S\d\d) ([^|]*?) \| \*?\*?(\w+)\*?\*? \|", PAGE.read_text(), re.MULTILINE)
    expected = {name: (scenario.title, scenario.verdict.value) for name, scenario in SCENARIOS.items()}
    expected[FLAPPING] = (FLAPPING_TITLE, "pass")
    assert {name: (title, verdict) for name, title, verdict in rows} == expected
    verdicts = [verdict for _, verdict in expected.values()]
    assert (len(verdicts), verdicts.count("pass"), verdicts.count("safe")) == (16, 12, 4)
