"""Every expression of dashboards, rules and runbooks returns data on a Prometheus that scraped a gateway."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config, rule_files
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.gateway.chat_routes import MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway
from tests.support.ledger.database import migrate_up
from tests.support.observability import traffic
from tests.support.observability.expressions import Expression, every_expression, sql_queries, variable_queries
from tests.support.paths import ROOT
from tests.support.servers.network.ports import free_port
from tests.support.servers.network.tls.certificates import Authority

pytestmark = pytest.mark.skipif(find_prometheus() is None, reason="no prometheus program is installed")

WAIT_SECONDS = 240.0
"""A bound for a machine that hangs; the conditions below are usually met within seconds."""
SCRAPE_INTERVAL = "5s"
"""Also the time that a scrape may take, on a busy machine."""
NEEDS_A_FAULT = {
    "absent(": "all instances are down",
    "unless on (job, instance) platform_build_info": "an instance has no worker",
    "max_over_time(platform_worker_resident_bytes": "a worker that has run for hours",
    'sum by (model, code) (increase(platform_model_call_failures_total{job="flowbiz-platform", code!~': (
        "the gateway itself fails requests for a model"
    ),
}
"""Parts of expressions that have no data here, and what causes some; `make drill` causes it."""
QUERIES_AT_ONCE = 8


@dataclass(frozen=True)
class Observed:
    """A Prometheus that scrapes a gateway, and the traffic for the gateway."""

    prometheus: EmbeddedPrometheus
    traffic: traffic.Traffic
    valkey: EmbeddedValkey
    database: str

    async def get(self, path: str, **params: str) -> Any:
        response = await self.traffic.client.get(f"{self.prometheus.url}/api/v1/{path}", params=params)
        assert response.status_code == 200, f"{params}: {response.text}"
        return response.json()["data"]

    async def series(self, expression: str) -> list[Any]:
        """The series that an expression returns now."""
        data = await self.get("query", query=expression)
        return data["result"] if data["resultType"] != "scalar" else [data["result"]]

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not await condition():
            assert time.monotonic() < deadline, what
            await asyncio.sleep(0.2)


@pytest.fixture(scope="module")
async def observed(
    platform: Platform,
    postgres: EmbeddedPostgres,
    simulator: ProviderSimulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Observed]:
    """All servers, and a first round of traffic."""
    directory = tmp_path_factory.mktemp("observed")
    valkey = EmbeddedValkey(tmp_path_factory.mktemp("observed-valkey"))
    await asyncio.to_thread(valkey.start)
    postgres.create_database("observed")
    database = postgres.url("observed")
    migrate_up(database)
    config_file = directory / "platform.yaml"
    traffic.write_config(config_file, traffic.config(simulator, Authority().issue(directory, "localhost")))
    here = Platform(environment(platform, database, valkey, config_file))
    admin_key, key = here.key("platform:*"), here.key("platform:chat", "platform:embeddings")
    gateway = Gateway(here.environment, directory, workers=2)
    config = gateway_config(
        f"127.0.0.1:{gateway.metrics_port}",
        rule_files(ROOT / "alerts"),
        scrape_interval=SCRAPE_INTERVAL,
        evaluation_interval="1s",
    )
    prometheus = EmbeddedPrometheus(directory / "prometheus", config, port=free_port())
    try:
        await asyncio.to_thread(gateway.start)
        await asyncio.to_thread(prometheus.start)
        async with httpx.AsyncClient(timeout=300, trust_env=False) as client:
            client_of = traffic.Traffic(gateway, client, Api(client, gateway.base_url, admin_key), key, config_file)
            yield Observed(prometheus, client_of, valkey, database)
    finally:
        await asyncio.to_thread(prometheus.stop)
        await asyncio.to_thread(gateway.stop)
        valkey.stop()
        postgres.drop_database("observed")


def environment(platform: Platform, database: str, valkey: EmbeddedValkey, config_file: Path) -> Mapping[str, str]:
    return {
        **platform.environment,
        "PLATFORM_DATABASE_URL": database,
        "PLATFORM_REDIS_URL": valkey.url,
        "PLATFORM_CONFIG_FILE": str(config_file),
        "PLATFORM_DEFAULT_MODEL": "chat",
        "PLATFORM_TRUSTED_PROXIES": "127.0.0.1",
        "PLATFORM_AUTH_FAILURES_PER_MINUTE": "2",
        "PLATFORM_REFUSALS_PER_ADDRESS_PER_MINUTE": "1",
        "PLATFORM_MAX_BODY_BYTES": "100000",
        "PLATFORM_STREAM_KEEP_ALIVE_SECONDS": "1",
        "PLATFORM_TRACE_SAMPLE_RATIO": "1",
        "PLATFORM_REDIS_TIMEOUT_MS": "250",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",  # a collector that is down: spans are counted as failed
    }


async def without_data(observed: Observed, expressions: Iterable[Expression]) -> list[Expression]:
    """The expressions that return no series now."""
    limit = asyncio.Semaphore(QUERIES_AT_ONCE)

    async def is_empty(each: Expression) -> bool:
        async with limit:
            return not await observed.series(each.executed())

    found = list(expressions)
    empty = await asyncio.gather(*map(is_empty, found))
    return [each for each, is_one in zip(found, empty, strict=True) if is_one]


async def test_every_expression_returns_data(observed: Observed) -> None:
    """Traffic continues while they are executed, since a rate needs two scrapes."""
    await observed.traffic.all_kinds()
    await observed.traffic.without_redis(observed.valkey)
    observed.traffic.change_config(policies={"retry": {"max_attempts": 3}})
    deadline = time.monotonic() + WAIT_SECONDS
    waiting = every_expression()
    while unexplained := [each for each in waiting if not any(part in each.text for part in NEEDS_A_FAULT)]:
        waiting = await without_data(observed, waiting)
        if time.monotonic() > deadline:
            pytest.fail("\n".join(f"no data: {each.place}: {each.executed()}" for each in unexplained))
        await observed.traffic.usual()
        await asyncio.sleep(0.5)
    gone = [part for part in NEEDS_A_FAULT if not any(part in each.text for each in every_expression())]
    assert gone == [], "no expression has these any more: take them out of NEEDS_A_FAULT"


@pytest.mark.parametrize("route", [RESPONSES, MESSAGES], ids=lambda route: route.name)
async def test_series_show_every_format(observed: Observed, route: ChatRoute) -> None:
    """The series that alerts and dashboards use, by route and by the public model that only this route was sent."""
    selectors = [
        f'platform_requests_total{{route="{route.path}", outcome="ok"}}',
        f'platform_http_requests_total{{route="{route.path}", status="200"}}',
        f'platform_overhead_seconds_count{{route="{route.path}"}}',
        f'platform_http_request_duration_seconds_count{{route="{route.path}"}}',
        f'platform_model_requests_total{{model="{route.name}", outcome="ok"}}',
        f'platform_provider_requests_total{{model="{route.name}", outcome="ok"}}',
        f'platform_provider_tokens_total{{model="{route.name}"}}',
    ]
    await observed.traffic.usual()
    for selector in selectors:

        async def counted(selector: str = selector) -> bool:
            return bool(await observed.series(f"sum({selector}) > 0"))

        await observed.until(counted, selector)


async def test_variables_list_the_values_of_labels(observed: Observed) -> None:
    for place, selector, label in variable_queries():

        async def listed(selector: str = selector, label: str = label) -> bool:
            return bool(await observed.get(f"label/{label}/values", **{"match[]": selector}))

        await observed.until(listed, place)


async def test_tables_of_records_show_the_traffic(observed: Observed) -> None:
    """The SQL of the tables runs on the gateway's database and returns rows."""
    engine = create_async_engine(observed.database, poolclass=NullPool)
    try:
        for title, sql in sql_queries():

            async def shown(sql: str = sql) -> bool:
                async with engine.connect() as connection:
                    return bool((await connection.execute(text(sql))).all())

            await observed.until(shown, title)
    finally:
        await engine.dispose()
