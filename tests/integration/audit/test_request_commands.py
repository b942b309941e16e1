"""One request, found over HTTP and by `flowbiz-platform request`."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import PROVIDER_KEY, Platform
from tests.support.commands.command_line import PEPPER, cli
from tests.support.gateway.process import Gateway
from tests.support.ledger.events import access, spool_in, usage


async def found_by(client: httpx.AsyncClient, gateway: Gateway, key: str, identifier: str) -> dict[str, Any]:
    """The response once the request is stored. Its usage record can be stored before the decision."""
    url = f"{gateway.base_url}/v1/platform/requests/{identifier}"
    async with asyncio.timeout(300):
        while True:
            response = await client.get(url, headers={"X-API-Key": key})
            assert response.status_code in (200, 404), response.text
            body: dict[str, Any] = response.json()
            if response.status_code == 200 and all(found["access"] for found in body["data"]):
                return body
            await asyncio.sleep(0.05)


async def test_owner_finds_own_request_and_no_other(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, owner: str
) -> None:
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat", owner=owner)
    own, foreign, admin = [
        await asyncio.to_thread(platform.key, scope, owner=of)
        for scope, of in (("platform:audit:read", owner), ("platform:audit:read", "theirs"), ("platform:*", "ops"))
    ]
    response = await client.post(gateway.chat_url, headers={"X-API-Key": key}, json={"prompt": "canary-prompt"})
    request_id, traceparent = response.headers["x-request-id"], response.headers["traceparent"]
    for reader in (own, admin):
        [found] = (await found_by(client, gateway, reader, request_id))["data"]
        assert (found["access"]["key_id"], found["access"]["owner"]) == (record.key_id, owner)
        assert (found["access"]["model"], found["access"]["status"]) == ("sim-ok", 200)
        assert (found["usage"]["outcome"], found["usage"]["attempts"]) == ("ok", 1)
        [attempt] = found["attempts"]
        assert (attempt["provider"], attempt["outcome"], attempt["status"]) == ("simulator", "ok", 200)
        for canary in ("canary-prompt", key, PROVIDER_KEY, PEPPER):
            assert canary not in json.dumps(found)
    assert (await found_by(client, gateway, own, traceparent))["data"] == [found]

    refusals = [
        (await client.get(f"{gateway.base_url}/v1/platform/requests/{id_}", headers={"X-API-Key": foreign}))
        for id_ in (request_id, traceparent, "unknown")
    ]
    bodies = [(each.status_code, each.json()["error"]["code"], each.json()["error"]["message"]) for each in refusals]
    assert len(set(bodies)) == 1
    assert bodies[0][:2] == (404, "not_found")
    listed = await client.get(
        f"{gateway.base_url}/v1/platform/audit", params={"request_id": request_id}, headers={"X-API-Key": own}
    )
    assert [entry["request_id"] for entry in listed.json()["data"]] == [request_id]


async def test_malformed_id_is_422(gateway: Gateway, platform: Platform, client: httpx.AsyncClient) -> None:
    admin = await asyncio.to_thread(platform.key, "platform:*")
    response = await client.get(f"{gateway.base_url}/v1/platform/requests/a%20b", headers={"X-API-Key": admin})
    assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")


async def test_command_shows_request_of_the_gateway(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, admin_key: str
) -> None:
    record, key = await asyncio.to_thread(platform.new_key, "platform:chat")
    response = await client.post(gateway.chat_url, headers={"X-API-Key": key}, json={"prompt": "x"})
    request_id = response.headers["x-request-id"]
    await found_by(client, gateway, admin_key, request_id)
    page = await asyncio.to_thread(cli, platform.environment, "request", request_id)
    assert page.code == 0, page.all
    assert re.search(rf"^request +{request_id}$", page.out, re.M)
    assert re.search(r"^decision +allow, status 200, [\d.,]+ ms$", page.out, re.M)
    assert re.search(rf"^key +{record.key_id}, owner tests$", page.out, re.M)
    assert re.search(r"^model +sim-ok -> simulator/sim-ok$", page.out, re.M)
    assert re.search(r"^ +[\d.]+ ms +[\d.]+ ms  [ =]{32}  simulator/sim-ok +ok, status 200", page.out, re.M)
    found = await asyncio.to_thread(cli, platform.environment, "request", response.headers["traceparent"], "--json")
    assert [each["access"]["request_id"] for each in found.json["data"]] == [request_id]


def test_command_finds_events_in_this_machines_spool(platform: Platform, tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    decision = access(
        request_id="in-the-spool",
        status=503,
        reason="provider_unavailable",
        hops="limits 200 2100,fallback 402000 0 provider_error",
        attempts='[["openai","gpt",3000,400000,"provider_error",500,"req_9",true,"It broke."],'
        '["azure","gpt",403000,0,"breaker_open",null,null,false]]',
    )
    spool.append(decision.line())
    spool.append(usage(request_id="in-the-spool", outcome="provider_error").line())
    environment = {**platform.environment, "PLATFORM_SPOOL_DIR": str(tmp_path)}
    page = cli(environment, "request", "in-the-spool")
    spool.close()
    assert page.code == 0, page.all
    assert "in the spool here" in page.out
    lines = [line.split("  ") for line in page.out.splitlines()]
    assert ["openai/gpt", 'provider_error, status 500, its id req_9, "It broke."'] in [
        [part.strip() for part in line if part.strip()][-2:] for line in lines
    ]
    assert "not sent, breaker open" in page.out
    timeline = page.out.partition("step\n")[2]
    assert timeline.index("limits") < timeline.index("openai/gpt") < timeline.index("fallback")


@pytest.mark.parametrize("arguments", [["nothing-has-this-id"], ["nothing-has-this-id", "--json"]])
def test_command_that_finds_nothing_says_what_that_can_mean(platform: Platform, arguments: list[str]) -> None:
    outcome = cli(platform.environment, "request", *arguments)
    assert outcome.code == 1
    assert "spool" in outcome.err
    assert "retention" in outcome.err
    assert outcome.out == ('{"data":[]}\n' if "--json" in arguments else "")


def test_command_refuses_malformed_id(platform: Platform) -> None:
    outcome = cli(platform.environment, "request", "not an id")
    assert outcome.code == 1
    assert "traceparent" in outcome.err
