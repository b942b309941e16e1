"""What must hold after the faults: documented results, exact records, limits, and gauges at rest."""

import re
from collections import Counter
from collections.abc import Sequence

import asyncpg

from tests.chaos.outages.faults import Fault
from tests.chaos.outages.load import WHOLE, Seen
from tests.chaos.outages.stage import LIMITED, Stage
from tests.support.gateway.http import metric
from tests.support.gateway.usage_totals import differences
from tests.support.paths import ROOT
from tests.support.timing.apart import run_apart

AT_REST = (
    "platform_http_requests_in_flight", "platform_streams_open", "platform_provider_slots_in_use",
    "platform_provider_slots_waiting", "platform_idempotency_detached", "platform_limiter_degraded",
    "platform_secrets_stale",
)  # fmt: skip
_DOCUMENTED = re.compile(r"^\| (\d{3}) \| `(\w+)`", re.MULTILINE)


def documented_results() -> set[str]:
    """Return every status with its code in docs/http/errors.md."""
    text = (ROOT / "docs/http/errors.md").read_text()
    return {f"{status} {code}" for status, code in _DOCUMENTED.findall(text)}


def result_problems(fault: Fault, seen: Sequence[Seen]) -> list[str]:
    """Return results that no document names, and lost connections where the fault cuts none."""
    documented = documented_results()
    codes = {each.partition(" ")[2] for each in documented}
    problems = []
    for result, count in Counter(each.result for each in seen).items():
        known = result == WHOLE or result in documented or result.removeprefix("stream ") in codes
        if not known and not fault.cuts:
            problems.append(f"{fault.name}: {count} × {result}")
    return problems


def limit_problems(fault: Fault, seen: Sequence[Seen]) -> list[str]:
    """Return whether the limited key got more than its limit allows."""
    good = sum(each.result == WHOLE for each in seen if each.client == f"limited-{fault.name}")
    allowed = LIMITED * fault.times_limit
    return [] if good <= allowed else [f"{fault.name}: {good} requests of a key that may send {allowed}"]


def record_problems(stage: Stage, seen: Sequence[Seen]) -> list[str]:
    """Return differences between the records in PostgreSQL and what clients saw."""
    decisions, usage = (Counter(_request_ids(stage, table)) for table in ("access_decisions", "usage_records"))
    received = {each.request_id for each in seen if each.must_be_recorded}
    sent = {each.request_id for each in seen}
    served = {each.request_id for each in seen if each.result == WHOLE}
    found = {
        "decisions written twice": [each for each, count in decisions.items() if count > 1],
        "usage records written twice": [each for each, count in usage.items() if count > 1],
        "responses without a decision": received - decisions.keys(),
        "served requests without a usage record": served - usage.keys(),
        "decisions of requests that no client sent": decisions.keys() - sent,
        "usage records of requests that no client sent": usage.keys() - sent,
        "totals that are not the sum of their records": run_apart(lambda: differences(stage.database_url)),
    }
    return [f"{len(list(which))} {what}, such as {list(which)[:3]}" for what, which in found.items() if which]


def all_recorded(stage: Stage, seen: Sequence[Seen]) -> bool:
    """Return whether every response has its decision in PostgreSQL; the gateways ship them within a second or so."""
    return {each.request_id for each in seen if each.must_be_recorded} <= set(_request_ids(stage, "access_decisions"))


def gauge_problems(stage: Stage) -> list[str]:
    """Return the gauges that are not at rest."""
    texts = [gateway.metrics() for gateway in stage.gateways]
    values = {name: sum(metric(text, name) for text in texts) for name in AT_REST}
    return [f"{name} is {value:g}" for name, value in values.items() if value]


def _request_ids(stage: Stage, table: str) -> list[str]:
    return run_apart(lambda: _read(stage.database_url, table))


async def _read(url: str, table: str) -> list[str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return [row["request_id"] for row in await connection.fetch(f"SELECT request_id FROM {table}")]
    finally:
        await connection.close()
