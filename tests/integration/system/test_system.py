"""Probes, metadata and unknown paths; how the processes start, drain, end and restart."""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.provider_simulator.server import ProviderSimulator
from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.gateway.http import Event, chat_head, connect, events_of, metric, metric_becomes, until, workers
from tests.support.gateway.process import Gateway
from tests.support.timing.responsive_time import responsive_time


@pytest.fixture(scope="module")
def cut_off(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose database and Redis stopped after its start."""
    directory = tmp_path_factory.mktemp("cut-off")
    postgres = EmbeddedPostgres(directory / "postgres")
    postgres.start()
    postgres.create_database("gone")
    url = postgres.url("gone")
    migrations.upgrade(url)
    environment = {
        **platform.environment,
        "PLATFORM_DATABASE_URL": url,
        "PLATFORM_REDIS_URL": f"unix://{directory / 'none.sock'}",
    }
    with Gateway(environment, directory) as running:
        postgres.stop()
        yield running


# --- probes


@pytest.mark.parametrize("path", ["/healthz", "/livez"])
async def test_healthz_and_livez_return_200(
    gateway: Gateway, cut_off: Gateway, client: httpx.AsyncClient, path: str
) -> None:
    for running in (gateway, cut_off):
        response = await client.get(running.base_url + path)
        assert response.status_code == 200
        assert response.json()["status"] == "ok"
        assert response.json()["service"] == "flowbiz-ai-platform"
        assert response.headers["x-request-id"]
        assert response.headers["traceparent"]


async def test_readyz_returns_200(gateway: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{gateway.base_url}/readyz")
    assert response.status_code == 200
    assert response.json()["status"] == "ready"
    checks = {check["name"]: (check["ok"], check["required"]) for check in response.json()["checks"]}
    assert checks == {
        "database": (True, False), "schema": (True, True), "redis": (True, False), "idempotency": (True, False),
        "ledger": (True, True),
    }  # fmt: skip


async def test_readyz_names_optional_services_that_are_down(cut_off: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{cut_off.base_url}/readyz")
    assert response.status_code == 200
    checks = {check["name"]: check for check in response.json()["checks"]}
    for name in ("database", "redis"):
        assert (checks[name]["ok"], checks[name]["required"]) == (False, False)
        assert checks[name]["detail"].startswith("cannot be used: ")
    assert str(cut_off.directory) not in response.text, "the response shows an address"


async def test_unknown_key_without_a_database_gets_503(
    cut_off: Gateway, client: httpx.AsyncClient, chat_key: str
) -> None:
    async with responsive_time() as spent:
        response = await client.post(
            cut_off.chat_url, headers={"Authorization": f"Bearer {chat_key}"}, json={"prompt": "Hello"}
        )
    assert spent.seconds < 10, "PLATFORM_DATABASE_TIMEOUT_SECONDS is 2"
    assert (response.status_code, response.json()["error"]["code"]) == (503, "auth_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert "www-authenticate" not in response.headers


async def test_readyz_with_an_old_schema_is_503(
    platform: Platform, empty_database: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await asyncio.to_thread(migrations.upgrade, empty_database)
    with Gateway({**platform.environment, "PLATFORM_DATABASE_URL": empty_database}, tmp_path) as running:
        assert (await client.get(f"{running.base_url}/readyz")).status_code == 200
        await asyncio.to_thread(migrations.downgrade, empty_database, "base")
        async with asyncio.timeout(300):  # what was found is kept for a second
            while (response := await client.get(f"{running.base_url}/readyz")).status_code == 200:
                await asyncio.sleep(0.1)
        assert (response.status_code, response.json()["status"]) == (503, "unready")
        (schema,) = [check for check in response.json()["checks"] if check["name"] == "schema"]
        assert (schema["ok"], schema["required"]) == (False, True)
        assert "flowbiz-platform migrate up" in schema["detail"]
        assert (await client.get(f"{running.base_url}/livez")).status_code == 200


async def test_meta_returns_the_version(gateway: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{gateway.base_url}/v1/meta")
    assert response.status_code == 200
    answer = response.json()
    assert (answer["service"], answer["environment"]) == ("flowbiz-ai-platform", "dev")
    assert re.fullmatch(r"\d+\.\d+\.\d+", answer["version"])
    assert "build_sha" in answer
    assert set(answer["core"]) == {"pinned", "installed", "compatible"}
    assert answer["core"]["pinned"] == "0.2.0"


async def test_metrics_are_on_their_own_port_only(gateway: Gateway, client: httpx.AsyncClient) -> None:
    response = await client.get(f"{gateway.base_url}/metrics")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    response = await client.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics")
    assert response.status_code == 200
    assert metric(response.text, "platform_http_requests_total", route="unmatched", status="404") >= 1
    assert metric(response.text, "platform_build_info") == 1


# --- addresses


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/platform/chat/", "/v1/platform/nothing", "/docs", "/redoc", "/admin", "/%00", "/ü", "/a/../../b"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_unknown_path_returns_404(gateway: Gateway, client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await client.request(method, gateway.base_url + path)
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "not_found"
    assert error["request_id"] == response.headers["x-request-id"]
    assert response.headers["traceparent"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/platform/chat", "POST"),
        ("PUT", "/v1/platform/chat", "POST"),
        ("DELETE", "/v1/platform/chat", "POST"),
        ("OPTIONS", "/v1/platform/chat", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/v1/meta", "GET"),
        ("PROPFIND", "/v1/platform/chat", "POST"),
    ],
)
async def test_wrong_method_returns_405(
    gateway: Gateway, client: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    response = await client.request(method, gateway.base_url + path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    error = response.json()["error"]
    assert (error["code"], error["request_id"]) == ("method_not_allowed", response.headers["x-request-id"])
    assert allowed in error["message"]


async def test_text_of_a_client_never_becomes_a_label(gateway: Gateway, client: httpx.AsyncClient) -> None:
    await client.request("PROPFIND", f"{gateway.base_url}/coffee-pot-7")
    text = gateway.metrics()
    assert "PROPFIND" not in text
    assert "coffee-pot-7" not in text


async def test_bytes_that_are_not_http_are_refused(gateway: Gateway, client: httpx.AsyncClient) -> None:
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/9.9\r\n\r\n",
    ):
        async with connect(gateway) as connection:
            await connection.send(garbage)
            answer = await connection.reader.read()
            assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), answer
    assert (await client.get(f"{gateway.base_url}/livez")).status_code == 200


# --- processes


async def _exit_code(gateway: Gateway, seconds: float) -> int:
    assert gateway.child is not None
    child = gateway.child
    await until(lambda: child.poll() is not None, seconds)
    code = child.poll()
    assert code is not None
    return code


async def test_draining_gateway_refuses_new_requests(
    platform: Platform, simulator: ProviderSimulator, client: httpx.AsyncClient, chat_key: str, tmp_path: Path
) -> None:
    """The gateway is unready for five seconds and still accepts connections; it finishes requests; then it exits."""
    simulator.reset()
    headers = {"Authorization": f"Bearer {chat_key}"}
    gateway = Gateway({**platform.environment, "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "5"}, tmp_path)
    with gateway:
        assert gateway.child is not None
        ask = {"prompt": "tokens:30", "model": "sim-slow-stream", "stream": True}
        streamed: list[Event] = []

        async def stream() -> None:
            async with client.stream("POST", gateway.chat_url, headers=headers, json=ask) as response:
                async for event in events_of(response.aiter_text()):
                    streamed.append(event)  # noqa: PERF401 - read while it grows

        streaming = asyncio.create_task(stream())
        await until(lambda: bool(streamed))
        signalled_at = time.monotonic()
        gateway.child.send(signal.SIGTERM)

        while (ready := await client.get(f"{gateway.base_url}/readyz")).status_code == 200:
            assert time.monotonic() - signalled_at < 60
        assert (ready.status_code, ready.json()["status"]) == (503, "draining")
        refused = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["connection"] == "close"
        assert (await client.get(f"{gateway.base_url}/livez")).status_code == 200

        await streaming
        assert time.monotonic() - signalled_at > 5, "the stream outlives the drain"
        assert [event.name for event in streamed] == ["delta"] * 31 + ["done"]
        assert await _exit_code(gateway, 60) == 0
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{gateway.base_url}/livez")


async def test_idle_gateway_stops_at_once(platform: Platform, client: httpx.AsyncClient, tmp_path: Path) -> None:
    """An idle kept-alive connection and one without a request do not delay it."""
    with Gateway({**platform.environment, "PLATFORM_SHUTDOWN_GRACE_SECONDS": "60"}, tmp_path) as gateway:
        await client.get(f"{gateway.base_url}/livez")
        async with connect(gateway):
            assert gateway.child is not None
            gateway.child.send(signal.SIGTERM)
            assert await _exit_code(gateway, 45) == 0


async def test_killed_worker_is_replaced(
    platform: Platform, client: httpx.AsyncClient, chat_key: str, tmp_path: Path
) -> None:
    headers = {"Authorization": f"Bearer {chat_key}"}
    with Gateway(platform.environment, tmp_path) as gateway:
        await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})
        await metric_becomes(gateway, 1, "platform_http_requests_total", status="200", route="/v1/platform/chat")
        (worker,) = workers(gateway)
        os.kill(worker, signal.SIGKILL)
        async with asyncio.timeout(300):
            # The parent holds the listening socket, so a request waits for the new worker, or meets the dying one.
            while True:
                try:
                    response = await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello"})
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
        assert response.status_code == 200
        (successor,) = workers(gateway)
        assert successor != worker
        await metric_becomes(gateway, 2, "platform_http_requests_total", status="200", route="/v1/platform/chat")
    (line,) = [line for line in gateway.log_lines() if line["event"] == "worker_died"]
    assert (line["pid"], line["how"]) == (worker, "killed by SIGKILL")


async def test_workers_do_not_outlive_their_parent(
    platform: Platform, simulator: ProviderSimulator, chat_key: str, tmp_path: Path
) -> None:
    """Also with a request in flight and an idle connection."""
    simulator.reset()
    with Gateway({**platform.environment, "PLATFORM_SHUTDOWN_GRACE_SECONDS": "1"}, tmp_path, workers=2) as gateway:
        found = workers(gateway)
        assert len(found) == 2
        body = json.dumps({"prompt": "Hello", "model": "sim-hang"}).encode()
        async with connect(gateway) as busy, connect(gateway):
            await busy.send(chat_head(chat_key, "orphan", f"Content-Length: {len(body)}") + body)
            await simulator.wait_for_outcome("sim-hang", "open")
            gateway.kill()
            await until(lambda: not any(processes.is_running(pid) for pid in found))


async def test_every_line_of_the_log_is_json(gateway: Gateway) -> None:
    for line in gateway.log_lines():
        assert {"event", "level", "timestamp", "component"} <= set(line)
