"""Fifty clients rotate a key: only requests with the ended secret are refused."""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import httpx
import pytest

from tests.conftest import Platform
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway

pytestmark = pytest.mark.proof

CLIENTS = 50
LEAST_GRACE_SECONDS = 5
CLOCKS_SECONDS = 0.02
"""The grace ends on PostgreSQL's clock and is checked on the gateway's; here both are the machine's."""


@dataclass(frozen=True)
class Use:
    """One request: which secret it used, when it was sent and when its response arrived (monotonic), and with what
    status."""

    secret: Literal["old", "new"]
    sent: float
    answered: float
    status: int


@pytest.fixture(scope="module")
def pair(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Gateway]]:
    """Two gateways, the second with two workers."""
    directory = tmp_path_factory.mktemp("rotation")
    with (
        Gateway(platform.environment, directory) as first,
        Gateway(platform.environment, directory, workers=2) as second,
    ):
        yield first, second


async def test_rotation_under_load_refuses_no_request(
    pair: tuple[Gateway, Gateway], client: httpx.AsyncClient, platform: Platform
) -> None:
    admin = Api(client, pair[0].base_url, platform.key("platform:*"))
    key_id, old = await admin.created()
    secrets: dict[Literal["old", "new"], str] = {"old": old}
    uses: list[Use] = []
    stop = asyncio.Event()

    async def use_it(number: int, http: httpx.AsyncClient) -> None:
        """Half of the clients move to the new secret as soon as there is one; the others keep the old one."""
        api = Api(http, pair[number % 2].base_url, "")
        while not stop.is_set():
            which: Literal["old", "new"] = "new" if number % 4 < 2 and "new" in secrets else "old"
            sent = time.monotonic()
            (status,) = await api.use(secrets[which])
            uses.append(Use(which, sent, time.monotonic(), status))

    limits = httpx.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx.AsyncClient(timeout=300, trust_env=False, limits=limits) as http, asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(use_it(number, http))
        async with asyncio.timeout(300):
            began = time.monotonic()
            while len(uses) < 3 * CLIENTS:
                await asyncio.sleep(0.01)
            asked = time.monotonic()
            # Long enough for as many uses of both secrets on this machine.
            grace = max(LEAST_GRACE_SECONDS, math.ceil(2 * (asked - began)))
            secrets["new"] = await admin.rotated(key_id, grace)
            rotated = time.monotonic()
            # Until every client with the old secret was sent away twice, and some time has passed for the others.
            while sum(use.status == 401 for use in uses) < CLIENTS:
                assert time.monotonic() < rotated + grace + 60, "the old secret goes on"
                await asyncio.sleep(0.01)
        stop.set()

    first_end, last_end = asked + grace - CLOCKS_SECONDS, rotated + grace + CLOCKS_SECONDS
    during = Counter((use.secret, use.status) for use in uses if use.answered < first_end)
    after = Counter((use.secret, use.status) for use in uses if use.sent > last_end)
    assert set(during) == {("old", 200), ("new", 200)}, during
    assert set(after) == {("old", 401), ("new", 200)}, after
    assert min(during.values()) >= CLIENTS / 5, f"too few to mean something: {during}"
    assert min(after.values()) >= CLIENTS / 5, f"too few to mean something: {after}"
    # Also in the moment of the end there is nothing else.
    assert {(use.secret, use.status) for use in uses} == {("old", 200), ("old", 401), ("new", 200)}
