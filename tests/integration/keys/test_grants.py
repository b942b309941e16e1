"""A manager gives, and manages, no more than it holds: scopes, limits, models and expiry, over HTTP."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.gateway.keys_api import Api, but_its_use, details

DEFAULT_LIMIT = 1_000_000
"""What the session's config file gives every key."""


async def manager(admin: Api, *more: str, **fields: Any) -> tuple[Api, str]:
    """A key that may manage keys, and its id."""
    key_id, key = await admin.created(scopes=["platform:api_keys:manage", *more], **fields)
    return admin.holding(key), key_id


BEYOND = ["platform:*", "platform:api_keys:*", "platform:api_keys:read", "platform:embeddings"]


@pytest.mark.parametrize("scope", BEYOND)
async def test_scope_beyond_the_actors_cannot_be_granted(admin: Api, owner: str, scope: str) -> None:
    lesser, own_id = await manager(admin, "platform:chat", owner=owner)
    target, _ = await lesser.created(owner=owner)
    scopes = ["platform:chat", scope]
    for response in (
        await lesser.create(owner=owner, scopes=scopes),
        await lesser.update(target, scopes=scopes),
        await lesser.update(own_id, scopes=["platform:api_keys:manage", *scopes]),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")
        assert f'scope="{scope}"' in response.headers["www-authenticate"]
    assert await admin.listed(owner=owner) == [target, own_id]
    assert (await admin.show(target)).json()["scopes"] == ["platform:chat"]
    assert (await admin.show(own_id)).json()["scopes"] == ["platform:api_keys:manage", "platform:chat"]


async def test_wildcard_grants_scopes_that_it_covers(admin: Api) -> None:
    _, key = await admin.created(scopes=["platform:api_keys:*"])
    holder = admin.holding(key)
    for scope in ("platform:api_keys:read", "platform:api_keys:manage", "platform:api_keys:*"):
        assert (await holder.create(scopes=[scope])).status_code == 201
    for scope in ("platform:chat", "platform:audit:*", "platform:*"):
        assert (await holder.create(scopes=[scope])).status_code == 403


@pytest.mark.parametrize("scopes", [["platform:*"], ["platform:chat", "platform:embeddings"]])
async def test_key_with_wider_scope_cannot_be_managed(admin: Api, scopes: list[str]) -> None:
    lesser, _ = await manager(admin, "platform:chat")
    target, key = await admin.created(scopes=scopes)
    before = (await admin.show(target)).json()
    for response in (
        await lesser.update(target, name="mine"),
        await lesser.update(target, scopes=["platform:chat"]),
        await lesser.rotate(target, 0),
        await lesser.revoke(target),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (403, "insufficient_scope")
    assert (await admin.show(target)).json() == before
    assert await admin.use(key) == [200]


async def test_limit_above_the_actors_cannot_be_granted(admin: Api, owner: str) -> None:
    lesser, own_id = await manager(admin, "platform:chat", owner=owner, limits={"key-rpm": 50})
    target, _ = await lesser.created(owner=owner, limits={"key-rpm": 50})
    for response in (
        await lesser.create(owner=owner, limits={"key-rpm": 51}),
        await lesser.create(owner=owner),  # would get the config file's limit
        await lesser.create(owner=owner, limits={}),
        await lesser.update(target, limits={"key-rpm": 51}),
        await lesser.update(target, limits=None),
        await lesser.update(target, limits={}),
        await lesser.update(own_id, limits=None),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error"), response.text
        assert "limits.key-rpm" in details(response)
        assert "50" in details(response)
    assert await admin.listed(owner=owner) == [target, own_id]
    assert (await admin.show(target)).json()["limits"] == {"key-rpm": 50}
    assert (await lesser.update(target, limits={"key-rpm": 49})).status_code == 200
    assert (await lesser.update(target, name="still mine")).status_code == 200


async def test_config_limit_is_ceiling_without_own_limit(admin: Api) -> None:
    lesser, _ = await manager(admin, "platform:chat")
    assert (await lesser.create(limits={"key-rpm": DEFAULT_LIMIT})).status_code == 201
    assert (await lesser.create(limits={"key-rpm": DEFAULT_LIMIT + 1})).status_code == 422
    assert (await admin.create(limits={"key-rpm": DEFAULT_LIMIT + 1})).status_code == 201


async def test_administrator_may_grant_above_its_own_limit(admin: Api) -> None:
    _, key = await admin.created(scopes=["platform:*"], limits={"key-rpm": 50})
    assert (await admin.holding(key).create(limits={"key-rpm": 51})).status_code == 201
    assert (await admin.holding(key).create()).status_code == 201


async def test_key_with_higher_limits_cannot_be_managed(admin: Api) -> None:
    lesser, _ = await manager(admin, "platform:chat", limits={"key-rpm": 50})
    for limits in ({"key-rpm": 51}, None):
        target, key = await admin.created(limits=limits)
        for response in (
            await lesser.update(target, name="mine"),
            await lesser.rotate(target, 0),  # would hand over its secret, and with it its limits
            await lesser.revoke(target),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
            assert "limits.key-rpm" in details(response)
        assert await admin.use(key) == [200]


async def test_models_beyond_the_actors_are_refused(admin: Api, owner: str) -> None:
    lesser, own_id = await manager(admin, "platform:chat", owner=owner, allowed_models=["gpt-4o"])
    target, _ = await lesser.created(owner=owner, allowed_models=["gpt-4o"])
    every, key = await admin.created(owner=owner)
    for response in (
        await lesser.create(owner=owner, allowed_models=["gpt-4o", "sim-ok"]),
        await lesser.create(owner=owner),  # every model
        await lesser.update(target, allowed_models=["sim-ok"]),
        await lesser.update(target, allowed_models=None),
        await lesser.update(own_id, allowed_models=None),
        await lesser.rotate(every, 0),
        await lesser.revoke(every),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error"), response.text
        assert "allowed_models" in details(response)
    assert (await lesser.create(owner=owner, allowed_models=[])).status_code == 201
    assert (await lesser.update(target, name="still mine")).status_code == 200
    assert await admin.use(key) == [200]


def in_hours(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


async def test_expiring_manager_cannot_grant_later_expiry(admin: Api, owner: str) -> None:
    own_end, later, sooner = in_hours(2), in_hours(2.01), in_hours(1)
    lesser, own_id = await manager(admin, "platform:chat", owner=owner, expires_at=own_end)
    target, _ = await lesser.created(owner=owner, expires_at=sooner)
    before = (await admin.show(own_id)).json()
    for response in (
        await lesser.create(owner=owner),
        await lesser.create(owner=owner, expires_at=None),
        await lesser.create(owner=owner, expires_at=later),
        await lesser.update(target, expires_at=None),
        await lesser.update(target, expires_at=later),
        await lesser.update(own_id, expires_at=None),
        await lesser.update(own_id, expires_at=later),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error"), response.text
        assert "expires_at" in details(response)
        assert "your own key expires at" in details(response)
    assert await admin.listed(owner=owner) == [target, own_id]
    assert but_its_use((await admin.show(own_id)).json()) == but_its_use(before)
    assert (await lesser.update(target, expires_at=own_end)).status_code == 200
    assert (await lesser.update(own_id, expires_at=sooner)).status_code == 200
    assert (await lesser.update(own_id, expires_at=own_end)).status_code == 422, "its own end is the earlier one now"


async def test_key_with_later_expiry_cannot_be_managed(admin: Api, owner: str) -> None:
    """Rotating it would give the manager a secret that outlives its own."""
    lesser, _ = await manager(admin, "platform:chat", owner=owner, expires_at=in_hours(1))
    for end in (None, in_hours(2)):
        target, key = await admin.created(owner=owner, expires_at=end)
        for response in (
            await lesser.update(target, name="mine"),
            await lesser.update(target, expires_at=in_hours(0.5)),
            await lesser.rotate(target, 0),
            await lesser.revoke(target),
        ):
            assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
            assert "expires_at" in details(response)
        assert await admin.use(key) == [200]


async def test_expiring_administrator_may_grant_no_expiry(admin: Api) -> None:
    _, key = await admin.created(scopes=["platform:*"], expires_at=in_hours(1))
    assert (await admin.holding(key).create()).status_code == 201


async def test_key_without_manage_scope_changes_nothing(admin: Api, owner: str) -> None:
    target, _ = await admin.created(owner=owner)
    own_id, key = await admin.created(
        scopes=["platform:api_keys:read", "platform:chat", "platform:audit:read"], owner=owner
    )
    reader = admin.holding(key)
    for response in (
        await reader.create(owner=owner),
        await reader.update(target, name="x"),
        await reader.rotate(target, 0),
        await reader.revoke(target),
    ):
        assert response.status_code == 403
    assert await reader.listed(owner=owner) == [own_id, target]


async def test_response_never_repeats_a_key_sent_as_id(admin: Api) -> None:
    _, key = await admin.created()
    for response in (await admin.show(key), await admin.revoke(key), await admin.rotate(key, 0)):
        assert response.status_code == 404
        assert key.rpartition("_")[2] not in response.text
        assert json.loads(response.text)["error"]["code"] == "not_found"
