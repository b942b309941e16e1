"""The ledger while its database freezes, stops and comes back, and while workers are killed: what clients saw and
what is recorded is the same, exactly.

`LEDGER_OUTAGE_SECONDS` says how long each outage lasts (3 without it; 60 is the promise).
"""

import asyncio
import itertools
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import asyncpg
import httpx
import pytest

from apps.platform_cli.embedded import processes
from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.db import migrations
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.process import Gateway, write_config
from tests.support.ledger.usage.totals import differences
from tests.support.timing.apart import run_apart

pytestmark = pytest.mark.proof

OUTAGE_SECONDS = float(os.environ.get("LEDGER_OUTAGE_SECONDS", "3"))
KILLS = 20

_runs = itertools.count(1)


@dataclass
class Stage:
    """Servers of these tests' own, since they are stopped, frozen and killed."""

    postgres: EmbeddedPostgres
    platform: Platform
    directory: Path

    @property
    def spool(self) -> Path:
        return Path(self.platform.environment["PLATFORM_SPOOL_DIR"])

    @property
    def url(self) -> str:
        return self.platform.environment["PLATFORM_DATABASE_URL"]

    def request_ids(self, prefix: str, table: str = "access_decisions") -> list[str]:
        """The request ids of all decisions, or usage records, of one run."""

        async def read() -> list[str]:
            connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
            try:
                rows = await connection.fetch(
                    f"SELECT request_id FROM {table} WHERE starts_with(request_id, $1)", prefix
                )
            finally:
                await connection.close()
            return [row["request_id"] for row in rows]

        return run_apart(read)

    def wrong_totals(self) -> list[asyncpg.Record]:
        return run_apart(lambda: differences(self.url))

    def segments(self) -> list[str]:
        return [name for name in os.listdir(self.spool) if name.endswith((".seg", ".open"))]


@pytest.fixture(scope="module")
def stage(platform: Platform, valkey: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory = tmp_path_factory.mktemp("ledger-chaos")
    postgres = EmbeddedPostgres(
        directory / "postgres", settings={"log_statement": "all", "log_line_prefix": "%a|", "fsync": "off"}
    )
    ready = directory / "simulator.json"
    simulator = ChildProcess(
        "the simulator", [sys.executable, "-m", "apps.provider_simulator", "--port", "0", "--ready-file", str(ready)]
    )
    try:
        postgres.start()
        postgres.create_database("chaos")
        url = postgres.url("chaos")
        migrations.upgrade(url)
        simulator.wait_ready(ready.exists, 60)
        base_url = json.loads(ready.read_text())["base_url"]
        config = write_config(directory / "platform.yaml", base_url, rate_limits=GENEROUS)
        environment = {
            **platform.environment,
            "PLATFORM_DATABASE_URL": url,
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_SPOOL_DIR": str(directory / "spool"),
            "PLATFORM_DATABASE_TIMEOUT_SECONDS": "1",
            "TMPDIR": str(directory),  # a parent that is killed cannot remove what it made
        }
        yield Stage(postgres, Platform(environment), directory)
    finally:
        simulator.stop()
        postgres.stop()


@dataclass
class Load:
    """Clients in a separate thread, each sending one request after the other."""

    gateway: Gateway
    key: str
    clients: int = 6
    pause: float = 0.01
    prefix: str = field(default_factory=lambda: f"run{next(_runs)}-")
    statuses: dict[str, int] = field(default_factory=dict)
    """The status of every response that a client received whole, by request id."""
    failures: list[str] = field(default_factory=list)
    """What clients received instead of a response."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()

    def introduce(self) -> Self:
        """Wait until every worker has verified the key: a worker that has not refuses every key while the database is
        down, and for up to a second after an earlier outage."""

        async def ask() -> list[int]:
            headers = {"Authorization": f"Bearer {self.key}"}
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:

                async def one() -> int:
                    async with session.post(self.gateway.chat_url, headers=headers, json={"prompt": "Hello"}) as answer:
                        return answer.status

                return await asyncio.gather(*(one() for _ in range(60)))

        eventually(lambda: set(asyncio.run(ask())) == {200}, 60)
        return self

    async def _run(self) -> None:
        timeout = aiohttp.ClientTimeout(total=20)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            await asyncio.gather(*(self._client(session, index) for index in range(self.clients)))
        await asyncio.sleep(0)

    async def _client(self, session: aiohttp.ClientSession, index: int) -> None:
        for number in itertools.count():
            if self._stopped.is_set():
                return
            request_id = f"{self.prefix}{index}-{number}"
            path, key, body = self._request(number)
            headers = {"X-Request-ID": request_id, "Authorization": f"Bearer {key}"}
            try:
                async with session.post(self.gateway.base_url + path, headers=headers, json=body) as response:
                    assert response.headers["x-request-id"] == request_id
                    await response.read()
                self.statuses[request_id] = response.status
            except (aiohttp.ClientError, TimeoutError) as error:
                self.failures.append(f"{request_id}: {error!r}")
            await asyncio.sleep(self.pause)

    def _request(self, number: int) -> tuple[str, str, dict[str, object]]:
        """Mostly chat requests; among them streams, refusals and an unknown path."""
        body: dict[str, object] = {"prompt": "Hello", "stream": number % 5 == 0}
        if number % 10 == 7:
            return "/v1/platform/chat", "not-a-key", body
        if number % 10 == 8:
            return "/v1/nowhere", self.key, body
        return "/v1/platform/chat", self.key, body


def eventually(what: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)


def twice(ids: list[str]) -> list[str]:
    return [each for each, count in Counter(ids).items() if count > 1]


def events_of(gateway: Gateway) -> Counter[str]:
    return Counter(line["event"] for line in gateway.log_lines() if line.get("component") == "ledger")


@pytest.fixture(scope="module")
def steady(stage: Stage) -> Iterator[Gateway]:
    """A gateway of two workers that look callers up again every second, so that an outage reaches auth too."""
    environment = {**stage.platform.environment, "PLATFORM_AUTH_CACHE_TTL_SECONDS": "1"}
    with Gateway(environment, stage.directory, workers=2) as gateway:
        yield gateway
    assert stage.segments() == [], "a stop ships everything"


@pytest.mark.timeout(400 + OUTAGE_SECONDS)
@pytest.mark.parametrize("how", ["frozen", "stopped"])
def test_database_outage_loses_and_doubles_nothing(stage: Stage, steady: Gateway, how: str) -> None:
    already = events_of(steady)
    stranger = stage.platform.key("platform:chat")  # good, and not known to the gateway yet
    with Load(steady, stage.platform.key("platform:chat")).introduce() as load:
        time.sleep(0.5)
        before = len(load.statuses)
        if how == "frozen":
            stage.postgres.pause()
        else:
            stage.postgres.stop()
        refused = httpx.post(steady.chat_url, headers={"X-API-Key": stranger}, json={"prompt": "x"}, timeout=300)
        time.sleep(OUTAGE_SECONDS)
        during = len(load.statuses) - before
        if how == "frozen":
            stage.postgres.resume()
        else:
            stage.postgres.start()
        time.sleep(0.5)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "auth_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    assert load.failures == []
    assert during > OUTAGE_SECONDS, "the load went on"
    unexpected = {each: status for each, status in load.statuses.items() if status != _expected(each)}
    assert unexpected == {}, "known callers go on, and all others get their own answer"
    eventually(lambda: len(stage.request_ids(load.prefix)) >= len(load.statuses), 60)
    recorded = stage.request_ids(load.prefix)
    assert twice(recorded) == []
    assert set(recorded) == set(load.statuses)
    assert len(recorded) == len(load.statuses)
    called = {each for each, status in load.statuses.items() if status == 200}
    eventually(lambda: len(stage.request_ids(load.prefix, "usage_records")) >= len(called), 60)
    used = stage.request_ids(load.prefix, "usage_records")
    assert (len(used), set(used)) == (len(called), called), "one usage record for each call of the provider"
    assert stage.wrong_totals() == []

    def said() -> tuple[int, int]:
        events = events_of(steady) - already
        return events["ledger_shipping_failed"], events["ledger_shipping_recovered"]

    # A worker that had nothing of the load to ship finds the database again with its own next try.
    eventually(lambda: len(set(said())) == 1, 60)
    failed, _ = said()
    # Once per worker; a freeze that is shorter than a batch's deadline is only a slow batch.
    assert failed <= 2
    assert failed > 0 or (how == "frozen" and OUTAGE_SECONDS < 12)
    print(f"{how} for {OUTAGE_SECONDS:g} s: {len(recorded)} answers, {during} of them meanwhile")  # noqa: T201


def _expected(request_id: str) -> int:
    number = int(request_id.rpartition("-")[2]) % 10
    return {7: 401, 8: 404}.get(number, 200)


@pytest.mark.timeout(400)
def test_killing_workers_loses_and_doubles_nothing(stage: Stage) -> None:
    key = stage.platform.key("platform:chat")
    gateway = Gateway(stage.platform.environment, stage.directory, workers=4).start()
    kills = 0
    try:
        with Load(gateway, key, clients=4) as load:
            while kills < KILLS:
                ready = serving(stage, gateway)
                if len(ready) > 1 or (ready and kills % 5 == 4):  # now and then the last one
                    os.kill(ready[0], signal.SIGKILL)
                    processes.wait_gone(ready[0], 60)
                    kills += 1
                time.sleep(random.uniform(0.05, 0.3))
            eventually(lambda: len(serving(stage, gateway)) > 0, 60)
            time.sleep(0.5)
            # And all of it at once, with the parent.
            assert gateway.child is not None
            gateway.child.kill()
            gateway = Gateway(stage.platform.environment, stage.directory, workers=2, port=gateway.port).start()
            time.sleep(1)
        eventually(lambda: stage.segments() == [], 60)
        recorded = stage.request_ids(load.prefix)
        assert twice(recorded) == []
        assert set(load.statuses) - set(recorded) == set(), "an answer that was seen whole was recorded before"
        used = stage.request_ids(load.prefix, "usage_records")
        assert twice(used) == []
        called = {each for each, status in load.statuses.items() if status == 200}
        assert called - set(used) == set(), "nor is an answer without its usage"
        assert stage.wrong_totals() == []
        assert len(load.statuses) > 100
        assert load.failures, "the kills hit something"
        print(f"{kills} kills: {len(load.statuses)} answers, {len(recorded)} decisions, {len(load.failures)} failures")  # noqa: T201
    finally:
        gateway.stop()


def serving(stage: Stage, gateway: Gateway) -> list[int]:
    """Workers that opened their spool, the oldest first."""
    assert gateway.child is not None
    locks = {int(name.partition("-")[0]) for name in os.listdir(stage.spool) if name.endswith(".lock")}
    return [pid for pid in processes.descendants(gateway.child.pid) if pid in locks and processes.is_running(pid)]


async def test_warm_request_sends_no_statement(stage: Stage) -> None:
    """Every statement that the server sees during 200 requests is the ledger's, or of the gauge that reads the schema's
    revision once a minute."""
    environment = {**stage.platform.environment, "PLATFORM_AUTH_CACHE_TTL_SECONDS": "60"}
    key = stage.platform.key("platform:chat")
    log = stage.postgres.directory.with_name("postgres.log")
    with Gateway(environment, stage.directory) as gateway, Load(gateway, key, clients=2, pause=0) as load:
        await asyncio.to_thread(eventually, lambda: len(load.statuses) > 20, 60)
        offset = log.stat().st_size
        count = len(load.statuses)
        await asyncio.to_thread(eventually, lambda: len(load.statuses) > count + 200, 60)
        await asyncio.sleep(1.5)  # some batches at least, or the log would prove nothing
        count = len(load.statuses) - count
        with log.open("rb") as lines:
            lines.seek(offset)
            seen = lines.read().decode()
    statements = Counter(re.findall(r"^([\w-]*)\|LOG:  (?:statement|execute)", seen, re.MULTILINE))
    assert statements.keys() - {"flowbiz-platform-readiness"} == {"flowbiz-platform-ledger"}, statements
    assert statements["flowbiz-platform-readiness"] < 40, "two readings at most, on a new connection each"
    # A transaction has three statements or more, so one for each request would be three times as many as requests.
    assert statements["flowbiz-platform-ledger"] < count, "batches, not requests"
