"""Refused requests of one caller do not affect the model for others, and the provider's message reaches the caller or
the log. Over every wire format, both chat routes, JSON and stream."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.http import OPENAI_CHAT, PLATFORM_CHAT, access_line, metric, until
from tests.support.gateway.process import Gateway, write_catalog
from tests.support.providers.faults import EXPECTED
from tests.support.providers.wires import WIRES, simulated_providers
from tests.support.servers.network.tcp import canned

WORDS = {
    "detail-list": "temperature: Input should be at most 2",
    "flat-error": "'top_k' must be at least 1",
    "error-text": "registry/model does not take this",
    "plain-text": "upstream says: the messages must alternate",
    "conflict": "The request conflicts with the state of the conversation",
    "no-endpoints": "No endpoints found that support tool use. See the docs.",
    "moderation": 'your input was flagged for \\"violence\\".',
    "context-words": "This model's maximum context length is 4096 tokens.",
    "failure-in-200": "This model's maximum context length is 4096 tokens.",
    "filtered": "",
    "bad-request": "temperature",
    "context-length": "",
    "content-filter": "",
}
"""Refusals after which the caller must change the request; the message reaches the caller."""
OPERATORS = ("payment-required", "method-not-allowed")
"""Refusals that the operator must fix; they do not count for the provider's health either."""
FAULTS = (*WORDS, *OPERATORS)
CALLS = 3


@pytest.fixture(scope="module")
async def shared(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    """Run a gateway that retries, with breakers that open after two failures."""
    directory = tmp_path_factory.mktemp("caller-faults")
    failing = canned(b"text/html", b"<html><h1>Bad gateway</h1>pool 7 is sk-abcdef123456</html>", status=b"502 Bad")
    async with failing:
        config = write_catalog(
            directory / "platform.yaml",
            {
                **simulated_providers(simulator),
                "failing": {"base_url": failing.url},
            },
            {
                **{f"{wire}-{fault}": [(wire, f"sim-{fault}@{wire}")] for wire in WIRES for fault in FAULTS},
                "failing": [("failing", "x")],
            },
            rate_limits=GENEROUS,
            policies={
                "retry": {"max_attempts": 3, "base_seconds": 0.01, "max_seconds": 0.02},
                "breaker": {"minimum_calls": 2, "failure_ratio": 0.1, "open_seconds": 600},
            },
        )
        environment = {
            **platform.environment,
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_DEFAULT_MODEL": "openai-conflict",
        }
        gateway = Gateway(environment, directory)
        await asyncio.to_thread(gateway.start)
        try:
            yield gateway
        finally:
            await asyncio.to_thread(gateway.stop)


async def ask(client: httpx.AsyncClient, gateway: Gateway, key: str, path: str, **fields: Any) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": "Hello"}], **fields}
    return await client.post(gateway.base_url + path, headers={"Authorization": f"Bearer {key}"}, json=body)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("wire", WIRES)
async def test_refused_request_is_sent_once_and_opens_no_breaker(
    shared: Gateway, client: httpx.AsyncClient, simulator: ProviderSimulator, chat_key: str, wire: str, fault: str
) -> None:
    """Kinds 4 to 10: one call for each request, with the provider's message."""
    upstream = f"sim-{fault}@{wire}"
    before, sent = simulator.count(upstream), 0
    for path in (PLATFORM_CHAT, OPENAI_CHAT):
        for stream in (False, True):
            for _ in range(CALLS):
                response = await ask(client, shared, chat_key, path, model=f"{wire}-{fault}", stream=stream)
                sent += 1
                expected = EXPECTED[fault].stream if stream else EXPECTED[fault].json
                assert expected is not None
                assert (response.status_code, response.json()["error"]["code"]) == (expected.status, expected.code)
                assert WORDS.get(fault, "") in response.text
                assert "retry-after" not in response.headers
    assert simulator.count(upstream) - before == sent
    state = metric(shared.metrics(), "platform_provider_breaker_state", provider=wire, model=upstream)
    assert state == 0, "the breaker is closed"


async def test_provider_message_reaches_only_the_log(shared: Gateway, client: httpx.AsyncClient, chat_key: str) -> None:
    """Kind 4: the message is masked and logged with the ids of the request."""
    response = await ask(client, shared, chat_key, OPENAI_CHAT, model="failing")
    assert response.json()["error"]["code"] in ("provider_error", "provider_unavailable")
    assert "pool 7" not in response.text
    request_id = response.headers["x-request-id"]
    await access_line(shared, request_id)

    def lines() -> list[dict[str, Any]]:
        return [each for each in shared.log_lines() if each.get("event") == "provider_call_failed"]

    await until(lambda: any(each.get("request_id") == request_id for each in lines()))
    line = next(each for each in lines() if each.get("request_id") == request_id)
    assert (line["provider_message"], line["code"], line["provider"]) == (
        "Bad gateway pool 7 is [masked]",
        "provider_error",
        "failing",
    )
