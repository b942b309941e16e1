"""The life of a key over HTTP: created, listed, shown, changed, rotated, revoked, expired."""

import asyncio
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from apps.platform_api.keys.schemas import KeyView
from platform_app.auth.tokens import parse_token
from tests.conftest import Platform
from tests.support.gateway.keys_api import Api, but_its_use, details, sql

DEFAULT_LIMIT = 1_000_000
"""What the session's config file gives every key."""


# --- create


async def test_new_key_is_shown_once_and_works_at_once(admin: Api, platform: Platform, database: str) -> None:
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    response = await admin.create(
        name="billing bot",
        owner="billing",
        scopes=["platform:embeddings", "platform:chat", "platform:chat"],
        allowed_models=["sim-ok", "gpt-4o"],
        limits={"key-rpm": 100},
        expires_at=expires_at.isoformat(),
    )

    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert set(body) == {"key", "api_key"}
    token = parse_token(body["key"])
    assert token is not None
    shown = body["api_key"]
    assert set(shown) == set(KeyView.model_fields)
    assert {name: shown[name] for name in ("name", "owner", "scopes", "allowed_models", "limits", "status")} == {
        "name": "billing bot",
        "owner": "billing",
        "scopes": ["platform:chat", "platform:embeddings"],
        "allowed_models": ["gpt-4o", "sim-ok"],
        "limits": {"key-rpm": 100},
        "status": "active",
    }
    assert (shown["key_id"], shown["environment"]) == (token.key_id, token.environment) == (token.key_id, "test")
    assert datetime.fromisoformat(shown["expires_at"]) == expires_at
    manager = parse_token(admin.key)
    assert manager is not None
    assert shown["created_by"] == f"key:{manager.key_id}"

    assert await admin.use(token.text) == [200]
    again = await admin.show(token.key_id)
    assert but_its_use(again.json()) == but_its_use(shown)
    secret = token.text.rpartition("_")[2]
    listed = await admin.page(owner="billing")
    for answer in (again, listed):
        assert secret not in answer.text
        assert "digest" not in answer.text

    pepper = platform.environment["PLATFORM_API_KEY_PEPPER"].removeprefix("1:")
    (stored,) = sql(database, "SELECT * FROM api_key_secrets WHERE key_id = :id", id=token.key_id)
    assert stored["digest"] == hmac.digest(pepper.encode(), token.text.encode(), "sha256")
    assert (stored["pepper_version"], stored["not_after"]) == (1, None)
    (row,) = sql(database, "SELECT to_jsonb(k)::text AS text FROM api_keys k WHERE key_id = :id", id=token.key_id)
    assert secret not in row["text"]


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no name": ({"name": " "}, "name"),
    "control characters": ({"owner": "a\nb"}, "owner"),
    "a long name": ({"name": "x" * 201}, "name"),
    "no scope": ({"scopes": []}, "scopes"),
    "an unknown scope": ({"scopes": ["platform:root"]}, "platform:root"),
    "another wildcard": ({"scopes": ["*"]}, "scopes"),
    "an unknown model": ({"allowed_models": ["gpt-nowhere"]}, "gpt-nowhere"),
    "an unknown rule": ({"limits": {"nonsense": 1}}, "nonsense"),
    "a limit of 0": ({"limits": {"key-rpm": 0}}, "limits.key-rpm"),
    "a huge limit": ({"limits": {"key-rpm": 10**9 + 1}}, "limits.key-rpm"),
    "a limit of text": ({"limits": {"key-rpm": "3"}}, "limits.key-rpm"),
    "the past": ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
    "no time zone": ({"expires_at": "2090-01-01T00:00:00"}, "expires_at"),
    "after the last day in UTC": ({"expires_at": "9999-12-31T23:59:59-23:59"}, "expires_at"),
    "before the first day in UTC": ({"expires_at": "0001-01-01T00:00:00+23:59"}, "expires_at"),
    "a key of one's own making": ({"key": "fbp_test_x"}, "key"),
    "an environment": ({"environment": "live"}, "environment"),
}


@pytest.mark.parametrize("case", WRONG)
async def test_invalid_field_is_named(admin: Api, database: str, owner: str, case: str) -> None:
    fields, named = WRONG[case]
    response = await admin.create(**{"owner": owner, **fields})
    assert response.status_code == 422, response.text
    assert response.json()["error"]["code"] == "validation_error"
    assert named in details(response)
    if "owner" not in fields:
        assert sql(database, "SELECT 1 FROM api_keys WHERE owner = :owner", owner=owner) == []


async def test_all_invalid_fields_are_named_at_once(admin: Api) -> None:
    response = await admin.create(name=" ", scopes=["nope"], limits={"nope": 1}, expires_at="2020-01-01T00:00:00Z")
    assert [line.partition(":")[0] for line in response.json()["error"]["details"]] == [
        "name", "scopes", "limits", "expires_at",
    ]  # fmt: skip


# --- list


async def test_pages_list_every_key_once_newest_first(admin: Api, database: str, owner: str) -> None:
    keys = [(await admin.created(owner=owner))[0] for _ in range(5)]
    # Two of the same instant: the id decides, and neither is lost between two pages.
    twins = sql(
        database,
        "UPDATE api_keys SET created_at = (SELECT created_at FROM api_keys WHERE key_id = :first) "
        "WHERE key_id = :second RETURNING key_id",
        first=keys[2],
        second=keys[3],
    )
    assert len(twins) == 1
    expected = [keys[4], *sorted(keys[2:4], reverse=True), keys[1], keys[0]]

    for size, lengths in ((2, [2, 2, 1]), (5, [5]), (4, [4, 1]), (1, [1] * 5), (200, [5])):
        seen: list[str] = []
        pages = []
        cursor: dict[str, str] = {}
        while True:
            page = (await admin.page(owner=owner, limit=size, **cursor)).json()
            seen += [key["key_id"] for key in page["data"]]
            pages.append(len(page["data"]))
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        assert (seen, pages) == (expected, lengths)


async def test_key_created_between_pages_shifts_no_page(admin: Api, owner: str) -> None:
    keys = [(await admin.created(owner=owner))[0] for _ in range(4)]
    first = (await admin.page(owner=owner, limit=2)).json()
    await admin.created(owner=owner)
    assert await admin.listed(owner=owner, limit=10, cursor=first["next_cursor"]) == keys[1::-1]


async def test_list_filters_select_keys(admin: Api, database: str, owner: str) -> None:
    active, _ = await admin.created(owner=owner)
    embeddings, _ = await admin.created(owner=owner, scopes=["platform:embeddings"])
    revoked, _ = await admin.created(owner=owner)
    expired, _ = await admin.created(owner=owner)
    assert (await admin.revoke(revoked)).status_code == 200
    sql(database, "UPDATE api_keys SET expires_at = now() - interval '1 second' WHERE key_id = :id", id=expired)

    assert await admin.listed(owner=owner) == [expired, revoked, embeddings, active]
    assert await admin.listed(owner=owner, status="active") == [embeddings, active]
    assert await admin.listed(owner=owner, status="revoked") == [revoked]
    assert await admin.listed(owner=owner, status="expired") == [expired]
    assert await admin.listed(owner=owner, scope="platform:embeddings") == [embeddings]
    assert await admin.listed(owner=owner, scope="platform:chat", status="active") == [active]
    assert await admin.listed(owner=owner, environment="test") == [expired, revoked, embeddings, active]
    assert await admin.listed(owner=owner, environment="live") == []
    assert await admin.listed(owner=owner.upper()) == []
    for key_id, status in ((active, "active"), (revoked, "revoked"), (expired, "expired")):
        assert (await admin.show(key_id)).json()["status"] == status


# --- update


async def test_update_changes_only_given_fields(admin: Api) -> None:
    key_id, key = await admin.created(name="before", allowed_models=["gpt-4o"], limits={"key-rpm": 7})
    before = (await admin.show(key_id)).json()
    later = (datetime.now(UTC) + timedelta(days=3)).replace(microsecond=0).isoformat()
    changes: list[dict[str, Any]] = [
        {"name": "after"},
        {"owner": "somebody else"},
        {"scopes": ["platform:chat", "platform:embeddings"]},
        {"allowed_models": ["sim-ok"]},
        {"allowed_models": None},
        {"limits": {"key-rpm": 9}},
        {"limits": None},
        {"expires_at": later},
        {"expires_at": None},
        {"name": "x", "owner": "y"},
        {},
    ]
    for change in changes:
        response = await admin.update(key_id, **change)
        assert response.status_code == 200, response.text
        before |= change
        assert response.json() == before
        assert (await admin.show(key_id)).json() == before
    assert await admin.use(key) == [200]


async def test_update_applies_at_once(admin: Api) -> None:
    key_id, key = await admin.created(scopes=["platform:chat", "platform:embeddings"])
    steps: list[tuple[dict[str, Any], int, str | None]] = [
        ({}, 200, None),
        ({"scopes": ["platform:embeddings"]}, 403, "insufficient_scope"),
        ({"scopes": ["platform:chat"]}, 200, None),
        ({"allowed_models": ["gpt-4o"]}, 403, "model_not_allowed"),
        ({"allowed_models": []}, 403, "model_not_allowed"),
        ({"allowed_models": None}, 200, None),
    ]
    for change, status, code in steps:
        assert (await admin.update(key_id, **change)).status_code == 200
        response = await admin.chat(key)
        assert (response.status_code, response.json().get("error", {}).get("code")) == (status, code), change


NOT_CHANGEABLE = ("key_id", "environment", "created_at", "created_by", "revoked_at", "revoked_by", "revoked_reason",
                  "last_used_at", "status", "key")  # fmt: skip


@pytest.mark.parametrize("field", NOT_CHANGEABLE)
async def test_unchangeable_field_is_refused(admin: Api, field: str) -> None:
    key_id, _ = await admin.created()
    before = (await admin.show(key_id)).json()
    response = await admin.call("PATCH", f"/{key_id}", json={"name": "after", field: None})
    assert response.status_code == 422
    assert field in details(response)
    assert (await admin.show(key_id)).json() == before


@pytest.mark.parametrize("field", ["name", "owner", "scopes"])
async def test_required_field_cannot_be_removed(admin: Api, field: str) -> None:
    key_id, _ = await admin.created()
    before = (await admin.show(key_id)).json()
    response = await admin.update(key_id, **{field: None})
    assert response.status_code == 422
    assert field in details(response)
    assert (await admin.show(key_id)).json() == before


# --- rotate


async def test_both_secrets_work_until_second_rotation(admin: Api, database: str) -> None:
    key_id, first = await admin.created()
    assert await admin.use(first) == [200]
    response = await admin.rotate(key_id, 60)
    assert response.headers["cache-control"] == "no-store"
    assert set(response.json()) == {"key", "api_key"}
    assert but_its_use(response.json()["api_key"]) == but_its_use((await admin.show(key_id)).json())
    second = response.json()["key"]
    assert second != first
    assert (parsed := parse_token(second)) is not None
    assert parsed.key_id == key_id
    assert await admin.use(first, second) == [200, 200]

    third = await admin.rotated(key_id, 60)
    assert await admin.use(first, second, third) == [401, 200, 200]
    ends = sql(database, "SELECT not_after FROM api_key_secrets WHERE key_id = :id ORDER BY created_at", id=key_id)
    assert [row["not_after"] is None for row in ends] == [False, True]

    fourth = await admin.rotated(key_id, 0)
    assert await admin.use(second, third, fourth) == [401, 401, 200]


async def test_old_secret_ends_with_grace_period(admin: Api) -> None:
    key_id, old = await admin.created()
    asked = datetime.now(UTC)
    new = await admin.rotated(key_id, 1)
    async with asyncio.timeout(300):
        while await admin.use(old) == [200]:
            pass
    ended = datetime.now(UTC)
    assert asked + timedelta(seconds=1) <= ended
    assert await admin.use(old, new) == [401, 200]


async def test_grace_period_defaults_to_an_hour(admin: Api, database: str) -> None:
    key_id, _ = await admin.created()
    assert (await admin.call("POST", f"/{key_id}/rotate", json={})).status_code == 200
    rows = sql(
        database,
        "SELECT round(extract(epoch FROM not_after - now())) AS left FROM api_key_secrets "
        "WHERE key_id = :id AND not_after IS NOT NULL",
        id=key_id,
    )
    assert [3590 <= row["left"] <= 3600 for row in rows] == [True]


@pytest.mark.parametrize("grace", [-1, 30 * 86_400 + 1, 1.5, "60", None, True])
async def test_invalid_grace_period_is_refused(admin: Api, grace: Any) -> None:
    key_id, key = await admin.created()
    response = await admin.rotate(key_id, grace)
    assert response.status_code == 422
    assert "grace_period_seconds" in details(response)
    assert await admin.use(key) == [200]


async def test_concurrent_rotations_leave_two_secrets(admin: Api, database: str) -> None:
    key_id, first = await admin.created()
    answers = await asyncio.gather(*(admin.rotate(key_id, 60) for _ in range(5)))
    assert [answer.status_code for answer in answers] == [200] * 5
    keys = [answer.json()["key"] for answer in answers]
    assert len(sql(database, "SELECT 1 FROM api_key_secrets WHERE key_id = :id", id=key_id)) == 2
    assert sorted(await admin.use(*keys)) == [200, 200, 401, 401, 401]
    assert await admin.use(first) == [401]


# --- revoke and expire


async def test_revocation_is_final(admin: Api) -> None:
    key_id, key = await admin.created()
    other = await admin.rotated(key_id, 60)
    assert await admin.use(key, other) == [200, 200]
    response = await admin.revoke(key_id, "it leaked")
    assert response.status_code == 200
    revoked = response.json()
    assert (revoked["status"], revoked["revoked_reason"]) == ("revoked", "it leaked")
    assert revoked["revoked_by"].startswith("key:")
    assert await admin.use(key, other) == [401, 401]

    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    for again in (
        await admin.revoke(key_id, "another reason"),
        await admin.rotate(key_id, 0),
        await admin.update(key_id, name="alive"),
        await admin.update(key_id, expires_at=later),
    ):
        assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
        assert "final" in details(again)
    assert but_its_use((await admin.show(key_id)).json()) == but_its_use(revoked)
    assert await admin.use(key, other) == [401, 401]


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "  "}, {"reason": None}, {"reason": "x" * 201}])
async def test_revocation_requires_a_reason(admin: Api, body: dict[str, Any]) -> None:
    key_id, key = await admin.created()
    response = await admin.call("POST", f"/{key_id}/revoke", json=body)
    assert response.status_code == 422
    assert "reason" in details(response)
    assert await admin.use(key) == [200]


async def test_expired_key_can_be_extended(admin: Api) -> None:
    key_id, key = await admin.created(expires_at=(datetime.now(UTC) + timedelta(seconds=5)).isoformat())
    assert await admin.use(key) == [200]
    async with asyncio.timeout(300):
        while await admin.use(key) == [200]:
            pass
    assert (await admin.show(key_id)).json()["status"] == "expired"
    refused = await admin.rotate(key_id, 0)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "expired" in details(refused)
    assert (await admin.update(key_id, expires_at=None)).json()["status"] == "active"
    assert await admin.use(key) == [200]


# --- limits of a key's own


async def test_own_limit_applies_and_changes_at_once(admin: Api) -> None:
    key_id, key = await admin.created(limits={"key-rpm": 3})
    assert await admin.use(*[key] * 5) == [200, 200, 200, 429, 429]
    assert (await admin.update(key_id, limits={"key-rpm": 5})).status_code == 200
    response = await admin.chat(key)
    assert response.headers["ratelimit-policy"] == '"key-rpm";q=5;w=60'
    assert [response.status_code, *await admin.use(*[key] * 2)] == [200, 200, 429]
    assert (await admin.update(key_id, limits={"key-rpm": 2})).status_code == 200
    assert await admin.use(key) == [429]
    new = await admin.rotated(key_id, 0)
    assert await admin.use(new) == [429], "a new secret is no new quota"
    assert (await admin.update(key_id, limits=None)).status_code == 200
    response = await admin.chat(new)
    assert (response.status_code, response.headers["x-ratelimit-limit-requests"]) == (200, str(DEFAULT_LIMIT))


async def test_own_limit_applies_to_management_routes(admin: Api) -> None:
    _, key = await admin.created(scopes=["platform:api_keys:read"], limits={"key-rpm": 2})
    reader = admin.holding(key)
    assert [(await reader.page(limit=1)).status_code for _ in range(3)] == [200, 200, 429]
