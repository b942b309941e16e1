"""What the gateway records of requests, and what it does when it cannot."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from typer.testing import CliRunner

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.main import app
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.chat_routes import CLIENT_ROUTES
from tests.support.gateway.http import chat_request, connect, metric, until
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import as_role, connected, migrate_up, set_up_roles
from tests.support.ledger.events import spool_in


@pytest.fixture(scope="module")
def roles_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database as the runtime role has it, set up as deploy/roles.sql says."""
    postgres.create_database("requests")
    url = postgres.url("requests")
    set_up_roles(url)
    migrate_up(as_role(url, "flowbiz_platform_owner"))
    set_up_roles(url)
    yield as_role(url, "flowbiz_platform_runtime")
    postgres.drop_database("requests")


@pytest.fixture(scope="module")
def recorded(
    platform: Platform, roles_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Gateway, Platform]]:
    """A gateway with its own database and two workers, running as the runtime role."""
    directory = tmp_path_factory.mktemp("recorded")
    environment = {
        **platform.environment,
        "PLATFORM_DATABASE_URL": roles_url,
        "PLATFORM_SPOOL_DIR": str(directory / "spool"),
        "PLATFORM_SPOOL_MAX_BYTES": "65536",
        "PLATFORM_MAX_BODY_BYTES": "2048",
    }
    with Gateway(environment, directory, workers=2) as running:
        yield running, Platform(environment)


@pytest.fixture
async def records(roles_url: str) -> AsyncIterator[asyncpg.Connection]:
    async with connected(roles_url) as connection:
        yield connection


async def decision_of(records: asyncpg.Connection, request_id: str) -> Mapping[str, Any]:
    """The only decision of a request, once it is there."""
    async with asyncio.timeout(300):
        while True:
            rows = await records.fetch("SELECT * FROM access_decisions WHERE request_id = $1", request_id)
            if rows:
                assert len(rows) == 1
                return dict(rows[0])
            await asyncio.sleep(0.05)


PROMPT = {"prompt": "Hello"}
OVER_CLIENT_ROUTES: list[tuple[str, str, Any, Any, tuple[int, str, str | None, bool]]] = [
    ("POST", route.path, headers, body, expected)
    for route in CLIENT_ROUTES
    for headers, body, expected in (
        ("chat", route.body(stream=True), (200, "allow", None, True)),
        ("chat", route.body(model="sim-stream-error", stream=True), (200, "allow", "provider_error", True)),
        ("chat", route.body(model="none"), (404, "deny", "model_not_found", True)),
        ({}, route.body(), (401, "deny", "missing_credentials", False)),
    )
]
NO_KEY = {"Authorization": f"Bearer fbp_test_{'k' * 12}_{'s' * 40}"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "expected"),
    [
        ("POST", "/v1/platform/chat", "chat", PROMPT, (200, "allow", None, True)),
        ("POST", "/v1/platform/chat", "chat", {**PROMPT, "stream": True}, (200, "allow", None, True)),
        ("POST", "/v1/platform/chat", "chat", {**PROMPT, "model": "sim-server-error"},
         (502, "allow", "provider_error", True)),
        ("POST", "/v1/platform/chat", "chat", {**PROMPT, "model": "sim-stream-error", "stream": True},
         (200, "allow", "provider_error", True)),
        ("POST", "/v1/platform/chat", "chat", {**PROMPT, "model": "none"}, (404, "deny", "model_not_found", True)),
        ("POST", "/v1/platform/chat", "chat", {"prompt": 1}, (422, "allow", "validation_error", True)),
        ("POST", "/v1/platform/chat", "chat", {"prompt": "x" * 4000}, (413, "allow", "payload_too_large", False)),
        ("POST", "/v1/platform/chat", {}, PROMPT, (401, "deny", "missing_credentials", False)),
        ("POST", "/v1/platform/chat", NO_KEY, PROMPT, (401, "deny", "invalid_api_key", False)),
        ("POST", "/v1/platform/chat", "scopeless", PROMPT, (403, "deny", "insufficient_scope", True)),
        ("GET", "/v1/platform/chat", {}, None, (405, "allow", "method_not_allowed", False)),
        ("GET", "/nowhere/secret-path", {}, None, (404, "allow", "not_found", False)),
        ("HEAD", "/nowhere", {}, None, (404, "allow", "not_found", False)),
        ("GET", "/metrics", {}, None, (404, "allow", "not_found", False)),
        ("GET", "/v1/meta", {}, None, (200, "allow", None, False)),
        ("POST", "/livez", {}, None, (405, "allow", "method_not_allowed", False)),
        *OVER_CLIENT_ROUTES,
    ],
)  # fmt: skip
async def test_every_response_leaves_one_decision(
    recorded: tuple[Gateway, Platform],
    client: httpx.AsyncClient,
    records: asyncpg.Connection,
    method: str,
    path: str,
    headers: str | dict[str, str],
    body: Any,
    expected: tuple[int, str, str | None, bool],
) -> None:
    gateway, platform = recorded
    key_id = None
    if isinstance(headers, str):
        record, key = platform.new_key("platform:chat" if headers == "chat" else "platform:usage:read")
        headers, key_id = {"Authorization": f"Bearer {key}"}, record.key_id
    status, decision, reason, with_key = expected
    response = await client.request(method, gateway.base_url + path, headers=headers, json=body)
    assert response.status_code == status
    row = await decision_of(records, response.headers["x-request-id"])
    assert (row["status"], row["decision"], row["reason"]) == (status, decision, reason)
    assert row["key_id"] == (key_id if with_key else None)
    assert row["trace_id"].hex == response.headers["traceparent"].split("-")[1]
    assert (row["method"], str(row["client_address"])) == (method, "127.0.0.1")
    # A route's template, never the path that a client typed; unmatched where the request did not get to the router.
    assert row["route"] == ("unmatched" if reason in ("not_found", "payload_too_large") else path)
    assert 0 < row["duration_ms"] < 60_000


@pytest.mark.parametrize("stream", [False, True])
async def test_disconnected_client_is_recorded(
    recorded: tuple[Gateway, Platform], records: asyncpg.Connection, simulator: ProviderSimulator, stream: bool
) -> None:
    gateway, platform = recorded
    model = "sim-slow-stream" if stream else "sim-delay"
    request_id = f"leaves-{stream}"
    before = simulator.count(model)
    async with connect(gateway) as connection:
        body = {"prompt": "one two three four five six seven eight nine", "model": model, "stream": stream}
        await connection.send(chat_request(platform.key(), body, request_id))
        await until(lambda: simulator.count(model) > before)
        if stream:
            await connection.reader.readuntil(b"event: delta")
    row = await decision_of(records, request_id)
    assert (row["status"], row["reason"], row["decision"]) == (499, "client_closed", "allow")


async def test_probes_are_nobodys_access(
    recorded: tuple[Gateway, Platform], client: httpx.AsyncClient, records: asyncpg.Connection
) -> None:
    gateway, _ = recorded
    ids = []
    for path in ("/healthz", "/livez", "/readyz"):
        response = await client.get(gateway.base_url + path)
        assert response.status_code == 200
        ids.append(response.headers["x-request-id"])
    last = await client.get(gateway.base_url + "/v1/meta")
    await decision_of(records, last.headers["x-request-id"])
    await asyncio.sleep(0.6)
    rows = await records.fetch("SELECT 1 FROM access_decisions WHERE request_id = ANY ($1::text[])", ids)
    assert rows == []


async def test_counters_and_gauges_show_the_state_of_the_ledger(
    recorded: tuple[Gateway, Platform], client: httpx.AsyncClient
) -> None:
    gateway, _ = recorded
    text = gateway.metrics()
    before = {name: metric(text, f"platform_ledger_{name}_total") for name in ("appended", "shipped")}
    for _ in range(10):
        await client.get(gateway.base_url + "/v1/meta")

    def shipped() -> bool:
        now = gateway.metrics()
        return metric(now, "platform_ledger_shipped_total") >= before["shipped"] + 10

    await until(shipped, 60)
    text = gateway.metrics()
    assert metric(text, "platform_ledger_appended_total") == before["appended"] + 10
    assert metric(text, "platform_ledger_batch_duration_seconds_count") > 0
    for name in ("dropped_total", "bad_lines_total", "refused_total", "spool_failures_total", "writer_failures_total"):
        assert metric(text, f"platform_ledger_{name}") == 0
    await until(lambda: metric(gateway.metrics(), "platform_ledger_spool_bytes") == 0)


async def test_maintenance_from_the_command_line(recorded: tuple[Gateway, Platform]) -> None:
    _, platform = recorded
    run = partial(CliRunner().invoke, app, ["maintenance"])
    done = await asyncio.to_thread(run, env=dict(platform.environment))
    assert (done.exit_code, done.output) == (
        0,
        "0 partitions created, 0 dropped (kept: 90 days of decisions, 400 of usage).\n",
    ), "done at start"
    down = {**platform.environment, "PLATFORM_DATABASE_URL": "postgresql://x@127.0.0.1:1/x"}
    done = await asyncio.to_thread(run, env=down)
    assert done.exit_code == 1
    assert done.output.startswith("Maintenance failed (")


async def test_full_spool_refuses_requests_and_lets_probes_through(
    recorded: tuple[Gateway, Platform], simulator: ProviderSimulator, client: httpx.AsyncClient
) -> None:
    gateway, platform = recorded
    headers = {"Authorization": f"Bearer {platform.key()}"}

    async def both_workers_answer(status: int) -> None:
        """Return twelve responses in a row, each over a separate connection."""
        async with asyncio.timeout(300):
            in_a_row = 0
            while in_a_row < 12:
                async with httpx.AsyncClient(trust_env=False) as each:
                    answer = await each.get(f"{gateway.base_url}/v1/meta")
                in_a_row = in_a_row + 1 if answer.status_code == status else 0
                await asyncio.sleep(0.02)

    other = spool_in(Path(gateway.environment["PLATFORM_SPOOL_DIR"]))  # a worker that lives: its segments stay
    other.append(b"x" * 70_000 + b"\n")
    await both_workers_answer(503)

    before = simulator.count("sim-ok")
    response = await client.post(gateway.chat_url, headers=headers, json=PROMPT)
    assert (response.status_code, response.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert response.headers["retry-after"] == "5"
    assert simulator.count("sim-ok") == before
    for path in ("/livez", "/healthz"):
        assert (await client.get(gateway.base_url + path)).status_code == 200
    ready = await client.get(f"{gateway.base_url}/readyz")
    assert ready.status_code == 503
    assert [check["name"] for check in ready.json()["checks"] if not check["ok"]] == ["ledger"]
    text = gateway.metrics()
    assert metric(text, "platform_ledger_refused_total") >= 13
    assert metric(text, "platform_ledger_spool_bytes") > 65536

    other.close()  # now it is an orphan: adopted, and its only line set aside
    await both_workers_answer(200)
    assert (await client.post(gateway.chat_url, headers=headers, json=PROMPT)).status_code == 200
    await until(lambda: metric(gateway.metrics(), "platform_ledger_bad_lines_total", reason="undecodable") == 1)
    events = {"ledger_spool_full": 2, "ledger_spool_has_room": 2}  # once for each worker
    await until(lambda: Counter(line["event"] for line in gateway.log_lines() if line["event"] in events) == events)
