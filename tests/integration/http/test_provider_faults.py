"""Every provider fault, as the gateway's clients see it."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from apps.provider_simulator.faults.catalog import FAULTS
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PROVIDER_KEY, Platform
from tests.support.gateway.http import access_line, metric, parse_events, workers
from tests.support.gateway.process import Gateway
from tests.support.providers.faults import EXPECTED, GATEWAY_IDLE_SECONDS, Expected
from tests.support.timing.responsive_time import responsive_time

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def faulty(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway with short deadlines, a model for each line of the table, and a provider that refuses connections."""
    directory = tmp_path_factory.mktemp("faulty")
    providers = {
        name: {"base_url": url, "api_key_secret": "OPENAI_API_KEY"}
        for name, url in (("simulator", simulator.base_url), ("refusing", simulator.refused_url))
    }
    models = {
        model: {"routes": [{"provider": "refusing" if model == "sim-refused" else "simulator", "model": model}]}
        for model in ("sim-ok", "sim-huge-body", "sim-huge-line", *(expected.model for expected in EXPECTED.values()))
    }
    config = directory / "platform.yaml"
    # One try each, and no breaker that keeps a fault from the simulator: integration/providers counts those.
    policies = {"retry": {"max_attempts": 1}, "breaker": {"minimum_calls": 100_000}}
    sections = {"providers": providers, "models": models, "rate_limits": GENEROUS, "policies": policies}
    config.write_text(yaml.safe_dump(sections))
    environment = {
        **platform.environment,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": str(GATEWAY_IDLE_SECONDS),
    }
    with Gateway(environment, directory) as running:
        yield running


@pytest.fixture
def headers(chat_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {chat_key}"}


def test_every_fault_has_an_expectation() -> None:
    assert set(EXPECTED) == set(FAULTS)
    for name, expected in EXPECTED.items():
        assert re.fullmatch(rf"sim-{name}(-\d+)?", expected.model)


def _check_refusal(response: httpx.Response, expected: Expected, kind: type) -> None:
    body = response.json()
    assert set(body) == {"error"}
    assert (response.status_code, body["error"]["code"]) == (kind.status, kind.code)  # type: ignore[attr-defined]
    assert body["error"]["request_id"] == response.headers["x-request-id"]
    wait = response.headers.get("retry-after")
    assert wait == (None if expected.retry_after is None else f"{expected.retry_after:g}")
    assert "www-authenticate" not in response.headers
    assert "location" not in response.headers
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("fault", EXPECTED)
async def test_json_request_on_a_fault_gets_its_error(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator, fault: str
) -> None:
    expected = EXPECTED[fault]
    outcome = expected.json.code if expected.json else "ok"
    labels = {"provider": "refusing" if fault == "refused" else "simulator", "model": expected.model}
    before = simulator.count(expected.model)
    counted = metric(faulty.metrics(), "platform_provider_requests_total", outcome=outcome, **labels)

    response = await client.post(faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": expected.model})

    if expected.json is None:
        assert (response.status_code, response.json()["output"]) == (200, "You said: Hello")
    else:
        _check_refusal(response, expected, expected.json)
        assert PROVIDER_KEY[:8] not in response.text  # the 401 of the simulator echoes it, masked
        assert PROVIDER_KEY[-4:] not in response.text
    assert simulator.count(expected.model) - before == (fault != "refused"), "one call for one request: no retries"
    line = await access_line(faulty, response.headers["x-request-id"])
    assert (line["status"], line["reason"], line["decision"], line["model"], line["provider"]) == (
        response.status_code, expected.json.code if expected.json else None, "allow", *reversed(labels.values()),
    )  # fmt: skip
    assert metric(faulty.metrics(), "platform_provider_requests_total", outcome=outcome, **labels) == counted + 1


@pytest.mark.parametrize("fault", EXPECTED)
async def test_stream_on_a_fault_gets_its_error(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator, fault: str
) -> None:
    expected = EXPECTED[fault]
    before = simulator.count(expected.model)

    response = await client.post(
        faulty.chat_url, headers=headers, json={"prompt": "Hello, world", "model": expected.model, "stream": True}
    )

    assert simulator.count(expected.model) - before == (fault != "refused"), "one call for one request: no retries"
    if expected.stream is not None and not expected.after_deltas:
        assert response.headers["content-type"] == "application/json"
        _check_refusal(response, expected, expected.stream)
        return
    assert response.status_code == 200
    *deltas, last = parse_events(response.text)
    assert deltas
    assert {event.name for event in deltas} == {"delta"}
    if expected.stream is None:
        assert (last.name, last.data["finish_reason"]) == ("done", "stop")
        assert "".join(event.data.get("content") or "" for event in deltas) == "You said: Hello, world"
        return
    assert last.name == "error"
    assert set(last.data) == {"error"}
    assert last.data["error"]["code"] == expected.stream.code
    assert last.data["error"]["request_id"] == response.headers["x-request-id"]
    line = await access_line(faulty, response.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (200, expected.stream.code)


async def test_message_of_the_provider_reaches_its_reader(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    for fault, words in (
        ("bad-request", "Invalid value for 'temperature'"),
        ("context-length", "maximum context length is 128000 tokens"),
        ("content-filter", "content management policy"),
    ):
        response = await client.post(
            faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": EXPECTED[fault].model}
        )
        assert words in response.json()["error"]["details"][0]
    for fault in ("unauthorized", "forbidden", "quota", "server-error", "rate-limited"):
        response = await client.post(
            faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": EXPECTED[fault].model}
        )
        assert "details" not in response.json()["error"], fault


@pytest.mark.parametrize("stream", [False, True])
async def test_idle_provider_is_abandoned_at_the_deadline(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator, stream: bool
) -> None:
    simulator.reset()
    started = time.monotonic()
    async with responsive_time() as spent:
        response = await client.post(
            faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": "sim-hang", "stream": stream}
        )
    assert time.monotonic() - started >= GATEWAY_IDLE_SECONDS
    assert response.status_code == 504
    assert spent.seconds < 5, "the total timeout was waited for"
    # And the call has ended: the provider stops generating.
    await simulator.wait_for_outcome("sim-hang", "client_closed")


async def test_redirect_of_a_provider_is_not_followed(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    for stream in (False, True):
        response = await client.post(
            faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": "sim-redirect", "stream": stream}
        )
        assert response.status_code == 502
    assert simulator.stats()["sim-redirect"]["total"] > 0
    assert simulator.stats()["sim-redirect"]["followed_redirects"] == 0


def _resident_bytes(gateway: Gateway, field: str) -> int:
    (worker,) = workers(gateway)
    status = Path(f"/proc/{worker}/status").read_text()
    match = re.search(rf"^{field}:\s+(\d+) kB$", status, re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def _reset_peak(gateway: Gateway) -> int:
    """Reset the worker's peak of resident memory; return its current size in bytes."""
    (worker,) = workers(gateway)
    Path(f"/proc/{worker}/clear_refs").write_text("5")  # proc(5)
    return _resident_bytes(gateway, "VmRSS")


needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is read from /proc")


@needs_proc
@pytest.mark.parametrize(("model", "stream"), [("sim-huge-body", False), ("sim-huge-line", True)])
async def test_endless_provider_response_is_bounded(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator,
    model: str, stream: bool,
) -> None:  # fmt: skip
    """The provider offers a gigabyte. The peak counts, so the test reads the worker's peak of resident memory."""
    simulator.reset()
    before = _reset_peak(faulty)
    response = await client.post(
        faulty.chat_url, headers=headers, json={"prompt": "Hello", "model": model, "stream": stream}
    )
    assert (response.status_code, response.json()["error"]["code"]) == (502, "provider_bad_response")
    assert _resident_bytes(faulty, "VmHWM") - before < 80 * MIB
    await simulator.wait_for_outcome(model, "client_closed")


@needs_proc
async def test_endless_stream_keeps_memory_bounded(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str], simulator: ProviderSimulator
) -> None:
    """Chunks are forwarded as they come, and the provider's connection is closed when the client disconnects."""
    simulator.reset()
    before, taken = _reset_peak(faulty), 0
    ask = {"prompt": "Hello", "model": "sim-huge-body", "stream": True}
    async with client.stream("POST", faulty.chat_url, headers=headers, json=ask) as response:
        async for piece in response.aiter_bytes():
            taken += len(piece)
            if taken > 100 * MIB:
                break
    assert _resident_bytes(faulty, "VmHWM") - before < 40 * MIB
    await simulator.wait_for_outcome("sim-huge-body", "client_closed")


async def test_ordinary_request_after_hostile_bodies_succeeds(
    faulty: Gateway, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    responses = await asyncio.gather(
        *(client.post(faulty.chat_url, headers=headers, json={"prompt": f"Hello {n}"}) for n in range(20))
    )
    assert [response.json()["output"] for response in responses] == [f"You said: Hello {n}" for n in range(20)]
