"""Who may call: every way to be refused, with its status, code, words and challenge."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from platform_app.auth.tokens import generate_token
from tests.conftest import Platform
from tests.support.gateway.http import access_line, metric, metric_becomes
from tests.support.gateway.process import Gateway

REALM = 'Bearer realm="flowbiz-platform"'
INVALID = f'{REALM}, error="invalid_token"'
LOOKUPS = "platform_auth_lookup_duration_seconds_count"


@pytest.fixture(scope="module")
def quick_gateway(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway that believes its cache for half a second only."""
    environment = {**platform.environment, "PLATFORM_AUTH_CACHE_TTL_SECONDS": "0.5"}
    with Gateway(environment, tmp_path_factory.mktemp("quick")) as running:
        yield running


async def ask(client: httpx.AsyncClient, gateway: Gateway, headers: Any, **body: Any) -> httpx.Response:
    return await client.post(gateway.chat_url, headers=headers, json={"prompt": "Hello", **body})


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def refusal(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and challenge, once the shape is as documented."""
    error = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(error) <= {"code", "message", "request_id", "details"}
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return response.status_code, error["code"], response.headers.get("www-authenticate")


# --- accepted


@pytest.mark.parametrize(
    "form", ["Bearer {}", "bearer {}", "BEARER   {}", "x-api-key", "both"], ids=lambda form: form.replace(" ", "_")
)
async def test_valid_key_is_accepted(gateway: Gateway, client: httpx.AsyncClient, chat_key: str, form: str) -> None:
    headers = {} if form == "x-api-key" else {"Authorization": form.format(chat_key)}
    if form in ("x-api-key", "both"):
        headers["X-API-Key"] = chat_key
    if form == "both":
        headers["Authorization"] = f"Bearer {chat_key}"
    response = await ask(client, gateway, headers)
    assert response.status_code == 200
    assert "www-authenticate" not in response.headers


@pytest.mark.parametrize("grant", ["platform:chat", "platform:*"])
async def test_grant_that_covers_the_scope_is_accepted(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform, grant: str
) -> None:
    assert (await ask(client, gateway, bearer(platform.key(grant)))).status_code == 200


# --- refused


async def test_missing_credentials_are_refused(
    gateway: Gateway, client: httpx.AsyncClient, simulator: ProviderSimulator
) -> None:
    before = simulator.count("sim-ok")
    response = await ask(client, gateway, {})
    assert refusal(response) == (401, "missing_credentials", REALM)
    assert simulator.count("sim-ok") == before
    line = await access_line(gateway, response.headers["x-request-id"])
    assert (line["status"], line["decision"], line["reason"], line["key_id"]) == (
        401, "deny", "missing_credentials", None,
    )  # fmt: skip


def _wrong_checksum(key: str) -> str:
    return key[:-1] + ("0" if key[-1] != "0" else "1")


MALFORMED: dict[str, Any] = {
    "another scheme": lambda key: {"Authorization": f"Basic {key}"},
    "no scheme": lambda key: {"Authorization": key},
    "an empty bearer": lambda key: {"Authorization": "Bearer"},
    "two words": lambda key: {"Authorization": f"Bearer {key} {key}"},
    "an empty X-API-Key": lambda key: {"X-API-Key": ""},
    "bad checksum": lambda key: bearer(_wrong_checksum(key)),
    "truncated": lambda key: bearer(key[:-1]),
    "another case": lambda key: bearer(key.upper()),
    "the key id alone": lambda key: bearer(key.split("_")[2]),
    "a long one": lambda key: bearer("fbp_test_" + "a" * 20_000),
    "SQL": lambda key: bearer("fbp_test_';DROP_TABLE_api_keys;--"),
    "bytes": lambda key: {"Authorization": f"Bearer {key[:-1]}ü".encode()},
    "both headers, other keys": lambda key: {**bearer(key), "X-API-Key": generate_token("test").text},
    "a good and an empty key": lambda key: {**bearer(key), "X-API-Key": ""},
    "two keys of one header": lambda key: [
        ("Authorization", f"Bearer {key}"), ("Authorization", f"Bearer {_wrong_checksum(key)}"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
async def test_malformed_credentials_cause_no_lookup(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator, case: str
) -> None:
    before, called = metric(gateway.metrics(), LOOKUPS), simulator.count("sim-ok")
    refused = metric(gateway.metrics(), "platform_auth_total", outcome="malformed")

    response = await ask(client, gateway, MALFORMED[case](platform.key()))

    assert refusal(response) == (401, "invalid_api_key", INVALID)
    await metric_becomes(gateway, refused + 1, "platform_auth_total", outcome="malformed")
    assert metric(gateway.metrics(), LOOKUPS) == before
    assert simulator.count("sim-ok") == called


async def test_well_formed_key_is_looked_up_once(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    """The test above relies on it: the metric counts lookups, and the cache serves all but the first."""
    before = metric(gateway.metrics(), LOOKUPS)
    for key in (platform.key(), generate_token("test").text):
        first, second = [(await ask(client, gateway, bearer(key))).status_code for _ in range(2)]
        assert first == second
        before += 1
        await metric_becomes(gateway, before, LOOKUPS)


async def test_refused_keys_get_the_same_response(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    record, revoked = platform.new_key()
    platform.revoke(record.key_id)
    good = platform.key()
    id_of_good = good.split("_")[2]
    refused = {
        "malformed": "fbp_test_nonsense",
        "unknown": generate_token("test").text,
        "another secret of a good id": generate_token("test", id_of_good).text,
        "another environment": generate_token("live", id_of_good).text,
        "revoked": revoked,
        "expired": platform.expired_key(),
    }

    seen = {}
    for name, key in refused.items():
        response = await ask(client, gateway, {**bearer(key), "X-Request-ID": "same"})
        assert refusal(response) == (401, "invalid_api_key", INVALID), name
        varying = ("traceparent", "date")
        headers = sorted((field, value) for field, value in response.headers.items() if field not in varying)
        seen[name] = (response.content, tuple(headers))
    assert len(set(seen.values())) == 1, seen
    assert (await ask(client, gateway, bearer(good))).status_code == 200


async def test_cached_key_expires_in_time(client: httpx.AsyncClient, platform: Platform, tmp_path: Path) -> None:
    """The gateway caches for a minute, far longer than this key lives."""
    environment = {**platform.environment, "PLATFORM_AUTH_CACHE_TTL_SECONDS": "60"}
    with Gateway(environment, tmp_path) as gateway:
        key = platform.key(expires_at=datetime.now(UTC) + timedelta(seconds=5))
        started = time.monotonic()
        assert (await ask(client, gateway, bearer(key))).status_code == 200
        while (response := await ask(client, gateway, bearer(key))).status_code == 200:
            assert time.monotonic() - started < 55
            await asyncio.sleep(0.05)
    assert refusal(response) == (401, "invalid_api_key", INVALID)


async def test_revocation_without_event_is_noticed_after_ttl(
    quick_gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    record, key = platform.new_key()
    assert (await ask(client, quick_gateway, bearer(key))).status_code == 200
    platform.revoke(record.key_id)
    started = time.monotonic()
    while (response := await ask(client, quick_gateway, bearer(key))).status_code == 200:
        assert time.monotonic() - started < 55, "revoked, and still accepted long after the TTL of 0.5 s"
        await asyncio.sleep(0.02)
    assert refusal(response) == (401, "invalid_api_key", INVALID)


# --- known, but not allowed


@pytest.mark.parametrize("grants", [["platform:models:read"], ["platform:api_keys:*", "platform:usage:read"]])
async def test_missing_scope_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator, grants: list[str]
) -> None:
    before = simulator.count("sim-ok")
    record, key = platform.new_key(*grants)
    response = await ask(client, gateway, bearer(key))
    assert refusal(response) == (
        403, "insufficient_scope", f'{REALM}, error="insufficient_scope", scope="platform:chat"',
    )  # fmt: skip
    assert simulator.count("sim-ok") == before
    line = await access_line(gateway, response.headers["x-request-id"])
    assert (line["decision"], line["reason"], line["key_id"]) == ("deny", "insufficient_scope", record.key_id)


async def test_missing_scope_is_refused_before_body_is_read(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    for headers, status in ((bearer(platform.key("platform:usage:read")), 403), ({}, 401)):
        response = await client.post(gateway.chat_url, headers=headers, content=b"{not json")
        assert response.status_code == status


async def test_model_beyond_the_keys_models_is_refused(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator
) -> None:
    key = bearer(platform.key(models=["gpt-4o"]))
    before = simulator.count("sim-ok")
    assert (await ask(client, gateway, key, model="gpt-4o")).status_code == 200

    for body in ({"model": "sim-ok"}, {}):  # the second: the default model is no way around
        response = await ask(client, gateway, key, **body)
        assert refusal(response) == (403, "model_not_allowed", None)
        assert "sim-ok" in response.json()["error"]["message"]
    assert simulator.count("sim-ok") == before


async def test_unknown_model_is_not_found(gateway: Gateway, client: httpx.AsyncClient, chat_key: str) -> None:
    response = await ask(client, gateway, bearer(chat_key), model="gpt-nowhere")
    assert refusal(response) == (404, "model_not_found", None)
    assert "gpt-nowhere" in response.json()["error"]["message"]
    assert 'model="gpt-nowhere"' not in gateway.metrics(), "a client chose a label"


async def test_key_without_models_may_use_no_model(
    gateway: Gateway, client: httpx.AsyncClient, platform: Platform
) -> None:
    response = await ask(client, gateway, bearer(platform.key(models=[])))
    assert refusal(response) == (403, "model_not_allowed", None)
