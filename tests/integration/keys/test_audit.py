"""The audit of the lifecycle: one event for each change, in the change's own transaction, without anything secret."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from platform_app.auth.keys.records import Actor, KeyChanges, NewKey
from platform_app.auth.keys.service import KeyLifecycle
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import parse_token
from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.resources.key_admin import KeyAdmin, open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.conftest import Platform
from tests.support.gateway.keys_api import Api, sql
from tests.support.gateway.process import Gateway

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PEPPER = "1a" * 32


def events_of(url: str, key_id: str) -> list[Mapping[str, Any]]:
    return sql(url, "SELECT * FROM audit_events WHERE target = :id ORDER BY id", id=key_id)


def noted(request_id: str) -> dict[str, str]:
    return {"X-Request-ID": request_id, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


async def test_each_change_writes_one_audit_event(admin: Api, database: str) -> None:
    holder = parse_token(admin.key)
    assert holder is not None
    body: Mapping[str, Any] = {"name": "first", "owner": "tests", "scopes": ["platform:chat"], "limits": {"key-rpm": 5}}
    created = await admin.call("POST", json=body, headers=noted("req-create"))
    key_id = created.json()["api_key"]["key_id"]
    views = [created.json()["api_key"]]
    for method, path, body, request_id in (
        ("PATCH", "", {"name": "second", "scopes": ["platform:embeddings"], "limits": None}, "req-update"),
        ("POST", "/rotate", {"grace_period_seconds": 90}, "req-rotate"),
        ("POST", "/revoke", {"reason": "it leaked"}, "req-revoke"),
    ):
        response = await admin.call(method, f"/{key_id}{path}", json=body, headers=noted(request_id))
        assert response.status_code == 200, response.text
        views.append(response.json().get("api_key", response.json()))

    events = events_of(database, key_id)

    assert [(event["action"], event["request_id"], event["reason"]) for event in events] == [
        ("api_key.create", "req-create", None),
        ("api_key.update", "req-update", None),
        ("api_key.rotate", "req-rotate", "grace period 90 s"),
        ("api_key.revoke", "req-revoke", "it leaked"),
    ]
    for event in events:
        assert event["actor"] == f"key:{holder.key_id}"
        assert (event["trace_id"], event["client_address"]) == (TRACE, "127.0.0.1")
    for view in views:
        del view["status"]  # follows from the rest, and from the time
    create, update, rotate, revoke = events
    assert (create["before"], create["after"]) == (None, views[0])
    assert (update["before"], update["after"]) == (views[0], views[1])
    assert (rotate["before"], rotate["after"]) == (views[1], views[1])
    assert (revoke["before"], revoke["after"]) == (views[1], views[3])
    assert (revoke["before"]["revoked_at"], revoke["after"]["revoked_reason"]) == (None, "it leaked")


async def test_audit_event_contains_no_secret_or_digest(admin: Api, database: str, platform: Platform) -> None:
    key_id, first = await admin.created()
    second = await admin.rotated(key_id, 60)
    await admin.update(key_id, name="other")
    digests = [row["digest"] for row in sql(database, "SELECT digest FROM api_key_secrets WHERE key_id = :i", i=key_id)]
    await admin.revoke(key_id)
    written = sql(database, "SELECT to_jsonb(e)::text AS text FROM audit_events e WHERE target = :id", id=key_id)
    assert (len(written), len(digests)) == (4, 2)
    pepper = platform.environment["PLATFORM_API_KEY_PEPPER"].removeprefix("1:")
    forbidden = [first.rpartition("_")[2], second.rpartition("_")[2], pepper]
    for digest in digests:
        forbidden += [digest.hex(), base64.b64encode(digest).decode(), base64.urlsafe_b64encode(digest).decode()]
    for row in written:
        assert key_id in row["text"]
        for secret in forbidden:
            assert secret not in row["text"]
            assert secret[:16] not in row["text"]


async def test_refusals_and_reads_write_no_audit_event(admin: Api, database: str) -> None:
    key_id, _ = await admin.created()
    _, lesser = await admin.created(scopes=["platform:api_keys:*"])
    before = sql(database, "SELECT count(*) AS count FROM audit_events")
    statuses = [
        (await admin.show(key_id)).status_code,
        (await admin.page()).status_code,
        (await admin.update(key_id, name="")).status_code,
        (await admin.update(key_id, surplus=1)).status_code,
        (await admin.rotate(key_id, -1)).status_code,
        (await admin.revoke(key_id, " ")).status_code,
        (await admin.holding(lesser).revoke(key_id)).status_code,
        (await admin.holding(lesser).create()).status_code,
        (await admin.rotate("0" * 12, 0)).status_code,
    ]
    assert statuses == [200, 200, 422, 422, 422, 422, 403, 403, 404]
    assert sql(database, "SELECT count(*) AS count FROM audit_events") == before


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_events SET actor = 'nobody'", "DELETE FROM audit_events", "TRUNCATE audit_events"]
)
async def test_audit_events_cannot_be_changed(admin: Api, database: str, statement: str) -> None:
    key_id, _ = await admin.created()
    with pytest.raises(DBAPIError, match="append-only"):
        sql(database, statement)
    assert len(events_of(database, key_id)) == 1


# --- the same transaction


@pytest.fixture
def own_database(empty_database: str) -> str:
    """A database at head that no other test sees."""
    migrations.upgrade(empty_database)
    return empty_database


@asynccontextmanager
async def keys_at(url: str) -> AsyncIterator[tuple[KeyAdmin, Peppers]]:
    """Open the key lifecycle on a separate database, without a Redis to publish key changes to."""
    settings = load_settings(database_url=url, redis_url="redis://127.0.0.1:1/0", env="dev")
    secrets = EnvSecretStore({"PLATFORM_API_KEY_PEPPER": PEPPER})
    async with open_key_admin(settings, secrets) as admin:
        yield admin, parse_peppers("PEPPER", PEPPER)


def everything(url: str) -> list[str]:
    """All rows of the three tables, but for the last use of a key, which is noted in the background."""
    rows = []
    for table in ("api_keys", "api_key_secrets", "audit_events"):
        rows += sql(url, f"SELECT (to_jsonb(t) - 'last_used_at')::text AS text FROM {table} t ORDER BY 1")
    return [row["text"] for row in rows]


Change = Callable[[KeyLifecycle, str, Peppers], Awaitable[object]]
NEW = NewKey("a test", "tests", ["platform:*"], "test")
CHANGES: Mapping[str, Change] = {
    "create": lambda keys, key_id, peppers: keys.create(NEW, peppers, Actor("tests")),
    "update": lambda keys, key_id, peppers: keys.update(key_id, KeyChanges(name="other"), Actor("tests")),
    "rotate": lambda keys, key_id, peppers: keys.rotate(key_id, 0, peppers, Actor("tests")),
    "rotate with grace": lambda keys, key_id, peppers: keys.rotate(key_id, 60, peppers, Actor("tests")),
    "revoke": lambda keys, key_id, peppers: keys.revoke(key_id, "a test", Actor("tests"), force=True),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_failed_audit_event_rolls_back_the_change(own_database: str, change: str) -> None:
    async with keys_at(own_database) as (keys, peppers):
        record, token = await keys.lifecycle.create(NEW, peppers, Actor("tests"))
        sql(own_database, "ALTER TABLE audit_events ADD CONSTRAINT none_more CHECK (false) NOT VALID")
        before = everything(own_database)
        assert len(before) == 3
        with pytest.raises(DBAPIError, match="none_more"):
            await CHANGES[change](keys.lifecycle, record.key_id, peppers)
        assert everything(own_database) == before
        sql(own_database, "ALTER TABLE audit_events DROP CONSTRAINT none_more")
        await CHANGES[change](keys.lifecycle, record.key_id, peppers)
        assert everything(own_database) != before
        assert len(events_of(own_database, record.key_id)) == (1 if change == "create" else 2)
        assert token.text not in json.dumps(everything(own_database))


async def test_failed_audit_event_rolls_back_bootstrap(own_database: str) -> None:
    sql(own_database, "ALTER TABLE audit_events ADD CONSTRAINT none_more CHECK (false) NOT VALID")
    async with keys_at(own_database) as (keys, peppers):
        with pytest.raises(DBAPIError, match="none_more"):
            await keys.lifecycle.bootstrap(NEW, peppers, Actor("tests"))
    assert everything(own_database) == []


@pytest.fixture
def own_platform(own_database: str, platform: Platform) -> Platform:
    return Platform({**platform.environment, "PLATFORM_DATABASE_URL": own_database})


@pytest.fixture
def own_gateway(own_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(own_platform.environment, tmp_path_factory.mktemp("audit")) as running:
        yield running


async def test_failed_audit_event_over_http_is_an_error(
    own_gateway: Gateway, own_platform: Platform, own_database: str, client: httpx.AsyncClient
) -> None:
    api = Api(client, own_gateway.base_url, own_platform.key("platform:*"))
    key_id, key = await api.created()
    sql(own_database, "ALTER TABLE audit_events ADD CONSTRAINT none_more CHECK (false) NOT VALID")
    before = everything(own_database)
    for response in (
        await api.create(),
        await api.update(key_id, name="other"),
        await api.rotate(key_id, 0),
        await api.revoke(key_id),
    ):
        assert response.status_code == 503, response.text
        assert "none_more" not in response.text
        assert "audit_events" not in response.text
    assert everything(own_database) == before
    assert await api.use(key) == [200]
