"""A manager stays within its own owner: for it, other owners' keys do not exist. Over HTTP."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.support.gateway.keys_api import Api, but_its_use, details

MANAGER = ["platform:api_keys:*", "platform:chat"]
UNKNOWN = "0" * 12


@pytest.fixture
async def manager(admin: Api, owner: str) -> Api:
    """Manages the keys of its owner, and holds what the keys of these tests hold."""
    _, key = await admin.created(owner=owner, scopes=MANAGER)
    return admin.holding(key)


def unlike_another(response: httpx.Response) -> Mapping[str, Any]:
    """Return a response without the members that differ between any two; the rest must not reveal that a key exists."""
    error = dict(response.json()["error"])
    del error["request_id"]
    headers = {name for name in response.headers if name not in ("ratelimit", "retry-after")}
    return {"status": response.status_code, "error": error, "headers": headers}


async def test_other_owners_key_gets_the_unknown_id_error(admin: Api, manager: Api, owner: str) -> None:
    foreign, key = await admin.created(owner=f"not {owner}"[:200])
    revoked, _ = await admin.created(owner=f"not {owner}"[:200])
    await admin.revoke(revoked)
    before = (await admin.show(foreign)).json()

    async def attempts(key_id: str) -> list[httpx.Response]:
        return [
            await manager.show(key_id),
            await manager.update(key_id, name="mine"),
            await manager.update(key_id, owner=owner),
            await manager.update(key_id, scopes=["platform:*"]),
            await manager.rotate(key_id, 0),
            await manager.rotate(key_id, 3600),
            await manager.revoke(key_id),
        ]

    unknown = [unlike_another(response) for response in await attempts(UNKNOWN)]
    assert {each["status"] for each in unknown} == {404}
    for key_id in (foreign, revoked):
        for response, expected in zip(await attempts(key_id), unknown, strict=True):
            seen = unlike_another(response)
            seen["error"]["message"] = seen["error"]["message"].replace(key_id, UNKNOWN)
            assert seen == expected
    assert but_its_use((await admin.show(foreign)).json()) == but_its_use(before)
    assert await admin.use(key) == [200]


@pytest.mark.parametrize("invented", ["another", "{} ", "{}x", "A{}", "tests", ""])
async def test_manager_cannot_create_other_owners_key(admin: Api, manager: Api, owner: str, invented: str) -> None:
    wanted = invented.format(owner[:190])
    response = await manager.create(owner=wanted)
    assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
    assert "owner" in details(response)
    assert len(await admin.listed(owner=owner)) == 1


async def test_invented_owners_give_no_extra_budget(admin: Api, manager: Api, owner: str) -> None:
    """A limit by owner counts every key that a manager can make together."""
    created = await asyncio.gather(*(manager.create(owner=f"{owner[:190]}-{number}") for number in range(6)))
    assert [response.status_code for response in created] == [422] * 6
    for number in range(6):
        assert await admin.listed(owner=f"{owner[:190]}-{number}") == []
    own = await asyncio.gather(*(manager.create(owner=owner) for _ in range(6)))
    assert {response.json()["api_key"]["owner"] for response in own} == {owner}


async def test_manager_cannot_move_key_to_other_owner(admin: Api, manager: Api, owner: str) -> None:
    own_id = (await manager.listed())[0]
    target, _ = await manager.created(owner=owner)
    for key_id in (own_id, target):
        response = await manager.update(key_id, owner="another")
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
        assert f"owner: your key manages only keys of its own owner, '{owner}'" in details(response)
        assert (await admin.show(key_id)).json()["owner"] == owner
        assert (await manager.update(key_id, owner=owner)).status_code == 200


async def test_list_contains_only_own_owners_keys(admin: Api, manager: Api, owner: str) -> None:
    other = f"not {owner}"[:200]
    foreign = [(await admin.created(owner=other))[0] for _ in range(3)]
    own_id = (await manager.listed())[0]
    mine, _ = await manager.created(owner=owner)
    await admin.created(owner=other)

    assert await manager.listed() == [mine, own_id]
    assert await manager.listed(owner=owner) == [mine, own_id]
    assert await manager.listed(owner=other) == []
    assert await manager.listed(owner="nobody's") == []
    assert await manager.listed(status="active", scope="platform:chat", environment="test") == [mine, own_id]
    assert set(await admin.listed(owner=other)) > set(foreign)


async def test_other_owners_cursor_lists_only_own_keys(admin: Api, manager: Api, owner: str) -> None:
    own_id = (await manager.listed())[0]
    for _ in range(3):
        await admin.created(owner=f"not {owner}"[:200])
    theirs = (await admin.page(limit=1)).json()
    assert theirs["next_cursor"] is not None
    assert await manager.listed(cursor=theirs["next_cursor"]) == [own_id]
    first = (await manager.page(limit=1)).json()
    assert ([key["key_id"] for key in first["data"]], first["next_cursor"]) == ([own_id], None)


async def test_moved_key_is_unreachable_at_once(admin: Api, manager: Api, owner: str) -> None:
    target, _ = await manager.created(owner=owner)
    assert (await admin.update(target, owner="another")).status_code == 200
    assert (await manager.show(target)).status_code == 404
    assert (await manager.rotate(target, 0)).status_code == 404
    assert target not in await manager.listed()


async def test_administrator_reaches_every_owner(admin: Api, owner: str) -> None:
    _, key = await admin.created(owner=owner, scopes=["platform:*"])
    other = admin.holding(key)
    target, _ = await other.created(owner="another")
    assert (await other.show(target)).status_code == 200
    assert (await other.update(target, owner="a third")).status_code == 200
    assert (await other.rotate(target, 0)).status_code == 200
    assert (await other.revoke(target)).status_code == 200
