"""Models with several routes of several wire formats: clients do not see the failures behind the gateway."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import metric, metric_becomes
from tests.support.gateway.process import Gateway, write_catalog

HELLO: Any = [{"role": "user", "content": "Hello there"}]
MINIMUM_CALLS, PROBES, OPEN_SECONDS = 4, 2, 10
NO_BREAKER = {"minimum_calls": 100_000}
FIRST_ROUTES = {
    "cannot-be-reached": ("down", "sim-ok"),
    "fails": ("simulator", "sim-server-error@first"),
    "is-overloaded": ("anthropic", "sim-overloaded@first"),
    "has-no-credit": ("simulator", "sim-quota@first"),
    "refuses-our-key": ("azure", "sim-unauthorized@first"),
    "talks-nonsense": ("anthropic", "sim-malformed-json@first"),
    "hangs": ("simulator", "sim-hang@first"),
}
SECOND_ROUTES = [("simulator", "sim-ok@second"), ("anthropic", "sim-ok@second"), ("azure", "sim-ok@second")]


def _gateway(
    platform: Platform, simulator: ProviderSimulator, factory: pytest.TempPathFactory, breaker: dict[str, Any]
) -> Gateway:
    directory = factory.mktemp("fallback")
    config = write_catalog(
        directory / "platform.yaml",
        {
            "down": {"base_url": simulator.refused_url},
            "simulator": {"base_url": simulator.base_url},
            "anthropic": {"wire_format": "anthropic", "base_url": simulator.anthropic_url},
            "azure": {"wire_format": "azure", "base_url": simulator.azure_url, "api_version": "2024-10-21"},
        },
        {
            "plain": [("simulator", "sim-ok")],
            **{
                f"{down}-then-{second[0]}": [first, second]
                for down, first in FIRST_ROUTES.items()
                for second in SECOND_ROUTES
            },
            "dies": [("simulator", "sim-stream-drop@first"), ("simulator", "sim-ok@second")],
            "claude-first": [("anthropic", "sim-ok"), ("simulator", "sim-ok@second")],
            "filtered": [("simulator", "sim-content-filter@first"), ("simulator", "sim-ok@second")],
            "too-long": [("simulator", "sim-context-length@first"), ("anthropic", "sim-ok@second")],
            "all-down": [("simulator", "sim-quota@first"), ("simulator", "sim-rate-limited-7@second")],
            "flaky": [("simulator", f"sim-flaky-{MINIMUM_CALLS}@breaker")],
            "flaky-first": [("simulator", f"sim-flaky-{MINIMUM_CALLS}@breaker"), ("azure", "sim-ok@second")],
        },
        rate_limits=GENEROUS,
        policies={"retry": {"max_attempts": 1}, "breaker": breaker},
    )
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "plain",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": "0.5",
    }
    return Gateway(environment, directory)


@pytest.fixture(scope="module")
def patient(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway whose breakers stay closed."""
    with _gateway(platform, simulator, tmp_path_factory, NO_BREAKER) as running:
        yield running


@pytest.fixture(scope="module")
def breaking(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """Run a gateway whose breakers open after a few failures."""
    breaker = {
        "failure_ratio": 0.5, "minimum_calls": MINIMUM_CALLS, "window_seconds": 60, "open_seconds": OPEN_SECONDS,
        "probes": PROBES,
    }  # fmt: skip
    with _gateway(platform, simulator, tmp_path_factory, breaker) as running:
        yield running


@pytest.fixture
async def client(patient: Gateway, chat_key: str) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{patient.base_url}/v1", api_key=chat_key, max_retries=0, timeout=300) as official:
        yield official


async def text_of(client: AsyncOpenAI, model: str, stream: bool) -> tuple[str, dict[str, str]]:
    """Return the text of the model and what the headers say about it."""
    raw = await client.chat.completions.with_raw_response.create(model=model, messages=HELLO, stream=stream)
    headers = {
        name.removeprefix("x-platform-"): value for name, value in raw.headers.items() if name.startswith("x-platform-")
    }
    response: Any = raw.parse()
    if not stream:
        assert response.model == model
        return response.choices[0].message.content, headers
    parts = [chunk.choices[0].delta.content or "" async for chunk in response if chunk.choices]
    return "".join(parts), headers


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("second", [provider for provider, _ in SECOND_ROUTES])
@pytest.mark.parametrize("down", FIRST_ROUTES)
async def test_fallback_is_shown_in_headers(client: AsyncOpenAI, down: str, second: str, stream: bool) -> None:
    text, headers = await text_of(client, f"{down}-then-{second}", stream)
    assert text == "You said: Hello there"
    assert headers == {"provider": second, "model": "sim-ok@second", "attempts": "2"}


async def test_begun_stream_does_not_fall_back(client: AsyncOpenAI, simulator: ProviderSimulator) -> None:
    before = simulator.count("sim-ok@second")
    with pytest.raises(openai.APIError):
        await text_of(client, "dies", stream=True)
    assert simulator.count("sim-ok@second") == before


async def test_invalid_request_does_not_fall_back(client: AsyncOpenAI, simulator: ProviderSimulator) -> None:
    before = simulator.count("sim-ok@second")
    with pytest.raises(openai.BadRequestError) as caught:
        await text_of(client, "filtered", stream=False)
    assert caught.value.code == "content_filtered"
    assert caught.value.response.headers["x-platform-attempts"] == "1"
    assert simulator.count("sim-ok@second") == before


@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_context_length_falls_back_to_other_model(
    client: AsyncOpenAI, simulator: ProviderSimulator, stream: bool
) -> None:
    before = simulator.count("sim-context-length@first")
    assert await text_of(client, "too-long", stream=stream)
    assert simulator.count("sim-context-length@first") == before + 1, "the same model is not asked again"


async def test_unsupported_request_falls_back_to_other_format(client: AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="claude-first", messages=HELLO, n=2)
    assert len(raw.parse().choices) == 2
    assert raw.headers["x-platform-provider"] == "simulator"


async def test_all_routes_down_returns_retry_after(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        await text_of(client, "all-down", stream=False)
    assert caught.value.code == "provider_rate_limited"
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["x-platform-attempts"] == "2"


async def test_breaker_opens_and_closes_at_configured_counts(
    breaking: Gateway, client: AsyncOpenAI, simulator: ProviderSimulator
) -> None:
    model = f"sim-flaky-{MINIMUM_CALLS}@breaker"
    state = {"name": "platform_provider_breaker_state", "provider": "simulator", "model": model}
    moved = {"name": "platform_provider_breaker_transitions_total", "provider": "simulator", "model": model}
    asking = client.with_options(base_url=f"{breaking.base_url}/v1")
    for _ in range(MINIMUM_CALLS):
        assert metric(breaking.metrics(), **state) == 0
        with pytest.raises(openai.InternalServerError) as caught:
            await text_of(asking, "flaky", stream=False)
        assert caught.value.code == "provider_error"
    await metric_becomes(breaking, 2, **state)
    for _ in range(3):
        with pytest.raises(openai.InternalServerError) as caught:
            await text_of(asking, "flaky", stream=False)
        assert (caught.value.status_code, caught.value.code) == (503, "provider_unavailable")
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= OPEN_SECONDS
    assert simulator.count(model) == MINIMUM_CALLS
    # A model with another route waits neither for this one nor for a call that is known to fail.
    _, headers = await text_of(asking, "flaky-first", stream=False)
    assert headers == {"provider": "azure", "model": "sim-ok@second", "attempts": "1"}
    await asyncio.sleep(OPEN_SECONDS)
    for _ in range(PROBES):
        assert (await text_of(asking, "flaky", stream=False))[0] == "You said: Hello there"
    await metric_becomes(breaking, 0, **state)
    assert simulator.count(model) == MINIMUM_CALLS + PROBES
    metrics = breaking.metrics()
    assert [metric(metrics, **moved, to=to) for to in ("open", "half_open", "closed")] == [1, 1, 1]
    labels = {"provider": "simulator", "reason": "breaker_open"}
    assert metric(metrics, "platform_provider_fallbacks_total", **labels) == 1
