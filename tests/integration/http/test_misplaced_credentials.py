"""A key that a client puts into the wrong field is neither stored nor sent back, whatever the field."""

import asyncio
import gzip
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from platform_app.auth.tokens import generate_token
from platform_app.db import migrations
from tests.conftest import Platform
from tests.support.gateway.database import connected
from tests.support.gateway.http import connect, metric
from tests.support.gateway.keys_api import Api, details
from tests.support.gateway.process import Gateway

PROVIDER = "sk-proj-" + "aB3_-" * 12
OURS = generate_token("live").text
MISPLACED = {"ours": OURS, "a provider's": PROVIDER}
HIDDEN = [OURS.rpartition("_")[2], OURS.rpartition("_")[2][:16], PROVIDER[3:], PROVIDER[8:30]]
"""The secret parts, whole and cut, which must never be shown."""


@pytest.fixture(scope="module")
def own_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    """A database at head whose tables hold only what this file sent."""
    postgres.create_database("misplaced")
    migrations.upgrade(postgres.url("misplaced"))
    yield postgres.url("misplaced")
    postgres.drop_database("misplaced")


@pytest.fixture(scope="module")
def own_platform(platform: Platform, own_url: str) -> Platform:
    return Platform({**platform.environment, "PLATFORM_DATABASE_URL": own_url, "PLATFORM_LOG_LEVEL": "debug"})


@pytest.fixture(scope="module")
def own_gateway(own_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(own_platform.environment, tmp_path_factory.mktemp("misplaced")) as running:
        yield running


@pytest.fixture(scope="module")
def own_key(own_platform: Platform) -> str:
    return own_platform.key("platform:*")


@pytest.fixture
def api(client: httpx.AsyncClient, own_gateway: Gateway, own_key: str) -> Api:
    return Api(client, own_gateway.base_url, own_key)


async def everything_stored(gateway: Gateway, url: str) -> str:
    """All rows of all tables, and the log, once the last request is in both."""
    async with connected(url) as connection:
        tables = await connection.fetch(
            "SELECT c.oid::regclass::text AS name FROM pg_class c "
            "WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
        )
        rows = [await rows_of(connection, table["name"]) for table in tables]
    return "\n".join([*rows, gateway.log_file.read_text()])


async def rows_of(connection: asyncpg.Connection, table: str) -> str:
    found = await connection.fetch(f"SELECT to_jsonb(t)::text AS text FROM {table} t")
    return "\n".join(row["text"] for row in found)


async def nothing_hidden_in(api: Api, gateway: Gateway, url: str, *responses: httpx.Response) -> None:
    """Wait until one more request is stored, then look at everything that was stored or sent back."""
    last = (await api.page(limit=1)).headers["x-request-id"]  # of a key: only those have a row each
    async with asyncio.timeout(300):
        while True:
            stored = await everything_stored(gateway, url)
            if stored.count(last) >= 2:  # a row and an access line
                break
            await asyncio.sleep(0.1)
    for response in responses:
        stored += f"\n{response.headers.multi_items()}\n{response.text}"
    for hidden in HIDDEN:
        assert hidden not in stored


@pytest.mark.parametrize("kind", MISPLACED)
@pytest.mark.parametrize("around", ["{}", "order-4711:{}", "{}.1", "x.{}.y"])
async def test_key_as_request_id_is_replaced(
    api: Api, own_gateway: Gateway, own_url: str, kind: str, around: str
) -> None:
    sent = around.format(MISPLACED[kind])
    before = await counted(api, own_gateway)
    responses = [
        await api.call("GET", headers={"X-Request-ID": sent}),
        await api.client.get(own_gateway.base_url + "/livez", headers={"X-Request-ID": sent}),
        await api.client.post(own_gateway.chat_url, headers={"X-Request-ID": sent}),
        await api.client.post(
            own_gateway.chat_url, headers={"X-Request-ID": sent, "X-API-Key": api.key}, json={"prompt": "Hello"}
        ),
    ]
    for response in responses:
        assert len(response.headers["x-request-id"]) == 32
    await nothing_hidden_in(api, own_gateway, own_url, *responses)
    assert await counted(api, own_gateway) == before + 4


async def counted(api: Api, gateway: Gateway) -> float:
    text = (await api.client.get(f"http://127.0.0.1:{gateway.metrics_port}/metrics")).text
    name = "platform_misplaced_credentials_total"
    return metric(text, name, field="x-request-id") if name in text else 0.0


async def test_common_request_id_is_kept(api: Api) -> None:
    for sent in ("order-4711", "task-2026-11-26-0001", "3fa85f64-5717-4562-b3fc-2c963f66afa6"):
        response = await api.call("GET", headers={"X-Request-ID": sent})
        assert response.headers["x-request-id"] == sent


@pytest.mark.parametrize("kind", MISPLACED)
async def test_key_in_path_or_header_is_never_shown(api: Api, own_gateway: Gateway, own_url: str, kind: str) -> None:
    key = MISPLACED[kind]
    keys, audit, usage, limits = (f"/v1/platform/{area}" for area in ("api-keys", "audit", "usage", "limits"))
    paths = [
        f"/{key}", f"/v1/{key}", f"/v1/models/{key}", f"/livez?{key}", f"/v1/platform/chat?api_key={key}",
        f"{keys}/{key}", f"{keys}?cursor={key}", f"{keys}?owner={key}", f"{keys}?status={key}", f"{keys}?{key}={key}",
        f"{audit}?key_id={key}", f"{audit}?trace_id={key}", f"{audit}?route={key}", f"{audit}?since={key}",
        f"{usage}?group_by={key}", f"{usage}?model={key}", f"{usage}?since={key}",
        f"{limits}?route={key}", f"{limits}?model={key}",
    ]  # fmt: skip
    strange = {"User-Agent": key, "Referer": f"https://example.org/{key}", "traceparent": key, "tracestate": f"a={key}",
               "X-Forwarded-For": key, "Forwarded": f"for={key}", "Cookie": f"key={key}", "Idempotency-Key": key,
               "baggage": f"a={key}", key: key}  # fmt: skip
    client, own = api.client, {"X-API-Key": api.key}
    responses = [await client.get(own_gateway.base_url + path, headers=own) for path in paths]
    responses += [await client.get(own_gateway.base_url + path) for path in paths]
    responses += [await client.get(own_gateway.base_url + "/v1/models", headers={**own, **strange})]
    responses += [await client.post(own_gateway.chat_url, headers={**own, **strange}, json={"prompt": "Hello"})]
    responses += [await client.post(own_gateway.chat_url, headers=strange, json={"prompt": "Hello"})]
    assert {response.status_code for response in responses} <= {200, 401, 404, 405, 422}
    await nothing_hidden_in(api, own_gateway, own_url, *responses)


@pytest.mark.parametrize("kind", MISPLACED)
async def test_key_as_method_is_never_shown(api: Api, own_gateway: Gateway, own_url: str, kind: str) -> None:
    """A method is any token of RFC 9110; a server that accepts any token must not store it."""
    request = f"{MISPLACED[kind]} /v1/models HTTP/1.1\r\nHost: x\r\nX-API-Key: {api.key}\r\n\r\n".encode()
    async with connect(own_gateway) as connection:
        await connection.send(request)
        status, _, body = await connection.answer()
    assert status in (400, 405, 501)
    assert not any(hidden.encode() in body for hidden in HIDDEN)
    await nothing_hidden_in(api, own_gateway, own_url)


@pytest.mark.parametrize("kind", MISPLACED)
async def test_key_in_body_is_not_repeated(api: Api, own_gateway: Gateway, own_url: str, kind: str) -> None:
    """Names of fields and of models are part of error messages."""
    key = MISPLACED[kind]
    bodies: list[Any] = [
        {"prompt": "Hello", "model": key}, {"prompt": "Hello", key: 1}, {"prompt": "Hello", "seed": key},
        {"prompt": "Hello", "metadata": {key: 1}}, {"prompt": "Hello", "tools": [{key: key}]},
        {"messages": [{"role": key, "content": "x"}]}, {"prompt": "Hello", "response_format": {"type": key}},
        [key], key,
    ]  # fmt: skip
    own = {"X-API-Key": api.key}
    responses = [
        await api.client.post(own_gateway.base_url + path, headers=own, json=body)
        for path in ("/v1/platform/chat", "/v1/chat/completions", "/v1/embeddings")
        for body in bodies
    ]
    responses.append(
        await api.client.post(
            own_gateway.chat_url, headers={**own, "Content-Encoding": "gzip"}, content=gzip.compress(key.encode())
        )
    )
    # OpenAI's routes leave the messages to the provider, which accepts any role here.
    assert {response.status_code for response in responses} <= {200, 400, 404, 415, 422}
    await nothing_hidden_in(api, own_gateway, own_url, *responses)


@pytest.mark.parametrize("kind", MISPLACED)
async def test_key_as_conversation_id_is_refused(api: Api, own_gateway: Gateway, own_url: str, kind: str) -> None:
    for sent in (MISPLACED[kind], f"chat {MISPLACED[kind]}"):
        response = await api.chat(api.key, conversation_id=sent)
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
        assert "conversation_id: " in details(response)
        await nothing_hidden_in(api, own_gateway, own_url, response)
    assert (await api.chat(api.key, conversation_id="ticket-4711")).json()["conversation_id"] == "ticket-4711"


@pytest.mark.parametrize("kind", MISPLACED)
async def test_key_in_text_about_a_key_is_refused(api: Api, own_gateway: Gateway, own_url: str, kind: str) -> None:
    """Name, owner and reason are stored and shown without end."""
    target, _ = await api.created()
    sent = f"was {MISPLACED[kind]}, leaked"
    responses = [
        await api.create(name=sent),
        await api.create(owner=sent),
        await api.update(target, name=sent),
        await api.update(target, owner=sent),
        await api.revoke(target, sent),
    ]
    for response in responses:
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
        assert "holds an API key" in details(response)
    await nothing_hidden_in(api, own_gateway, own_url, *responses)
