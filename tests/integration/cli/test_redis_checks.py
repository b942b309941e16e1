"""What `flowbiz-platform check` says about Redis's memory."""

import pytest

from apps.platform_cli.checks.redis import redis_checks
from platform_app.config import Settings, load_settings
from platform_app.readiness import Check
from tests.support.servers.valkey import own_server


def settings_of(url: str, **more: str) -> Settings:
    return load_settings(database_url="postgresql://unused", redis_url=url, redis_timeout_ms=5000, **more)


async def lines(settings: Settings) -> dict[str, Check]:
    return {check.name: check async for check in redis_checks(settings)}


@pytest.mark.parametrize(
    ("arguments", "ok", "detail"),
    [
        (("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"), False, "allkeys-lru"),
        (("--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"), False, "volatile-ttl"),
        (("--maxmemory", "64mb", "--maxmemory-policy", "noeviction"), True, "noeviction"),
        ((), True, "no maxmemory"),
    ],
)
async def test_evicting_redis_fails_the_check(arguments: tuple[str, ...], ok: bool, detail: str) -> None:
    with own_server(*arguments) as server:
        found = await lines(settings_of(server.url))
        assert list(found) == ["redis memory"]
        assert found["redis memory"].ok is ok
        assert detail in found["redis memory"].detail


async def test_redis_of_kept_responses_has_its_own_line() -> None:
    with own_server() as server, own_server("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as own:
        found = await lines(settings_of(server.url, idempotency_redis_url=own.url))
        assert {name: check.ok for name, check in found.items()} == {"redis memory": True, "idempotency redis": False}


async def test_redis_that_is_down_is_a_warning() -> None:
    check = (await lines(settings_of("unix:///nowhere/none.sock")))["redis memory"]
    assert (check.ok, check.required) == (False, False)
