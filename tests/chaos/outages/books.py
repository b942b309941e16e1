"""What must hold after the faults: documented results, exact records, limits, and gauges at rest."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import asyncpg

from tests.chaos.outages.faults import Fault
from tests.chaos.outages.load import WHOLE, Seen
from tests.chaos.outages.stage import LIMITED, Stage
from tests.support.gateway.http import metric
from tests.support.ledger.usage.totals import differences
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


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of the access decisions. It stands for several requests if they had no verified key (docs/adr/0019)."""

    request_id: str
    result: str
    """Status and error code, as `Seen.result`."""
    count: int = 1


def record_problems(stage: Stage, seen: Sequence[Seen]) -> list[str]:
    """Return differences between the records in PostgreSQL and what clients saw."""
    decisions = _decisions(stage)
    usage = Counter(row["request_id"] for row in _rows(stage, "SELECT request_id FROM usage_records"))
    sent = {each.request_id for each in seen}
    served = {each.request_id for each in seen if each.result == WHOLE}
    found = {
        "usage records written twice": [each for each, count in usage.items() if count > 1],
        "served requests without a usage record": served - usage.keys(),
        "usage records of requests that no client sent": usage.keys() - sent,
        "totals that are not the sum of their records": run_apart(lambda: differences(stage.database_url)),
    }
    return decision_problems(decisions, seen) + _shown(found)


def decision_problems(decisions: Sequence[Decision], seen: Sequence[Seen]) -> list[str]:
    """Return decisions that are missing, doubled, or of no request.

    A row with a count has the id of its first request alone. So the other requests of the row are compared by number:
    the counts of each result must be at least the responses without a row. They may exceed it only by requests whose
    clients saw no response.
    """
    rows = Counter(each.request_id for each in decisions)
    sent = {each.request_id for each in seen}
    unanswered = sum(not each.is_whole for each in seen)
    counted = _counted(decisions)
    missing = _without_row(decisions, seen)
    lost = missing - counted
    too_many = sum((counted - missing).values()) - unanswered
    found: dict[str, Collection[str]] = {
        "decisions written twice": [each for each, count in rows.items() if count > 1],
        "responses without a decision": list(lost.elements()),
        "decisions of requests that no client sent": rows.keys() - sent,
        "counted requests that no client sent": list((counted - missing).elements()) if too_many > 0 else [],
    }
    return _shown(found)


def all_recorded(stage: Stage, seen: Sequence[Seen]) -> bool:
    """Return whether every response has its decision in PostgreSQL. The gateways ship them within about a second, and
    counted ones when their minute ends."""
    decisions = _decisions(stage)
    return not _without_row(decisions, seen) - _counted(decisions)


def _without_row(decisions: Sequence[Decision], seen: Sequence[Seen]) -> Counter[str]:
    """Count the results of the responses that have no separate row."""
    rows = {each.request_id for each in decisions}
    return Counter(each.result for each in seen if each.must_be_recorded and each.request_id not in rows)


def _counted(decisions: Sequence[Decision]) -> Counter[str]:
    """Count the requests that are recorded in another request's row, by result."""
    counted: Counter[str] = Counter()
    for each in decisions:
        counted[each.result] += each.count - 1
    return counted


def _shown(found: Mapping[str, Collection[str]]) -> list[str]:
    return [f"{len(which)} {what}, such as {list(which)[:3]}" for what, which in found.items() if which]


def gauge_problems(stage: Stage) -> list[str]:
    """Return the gauges that are not at rest."""
    texts = [gateway.metrics() for gateway in stage.gateways]
    values = {name: sum(metric(text, name) for text in texts) for name in AT_REST}
    return [f"{name} is {value:g}" for name, value in values.items() if value]


def _decisions(stage: Stage) -> list[Decision]:
    rows = _rows(stage, "SELECT request_id, status, reason, coalesce(count, 1) AS count FROM access_decisions")
    return [Decision(row["request_id"], f"{row['status']} {row['reason']}", row["count"]) for row in rows]


def _rows(stage: Stage, statement: str) -> list[asyncpg.Record]:
    return run_apart(lambda: _read(stage.database_url, statement))


async def _read(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows: list[asyncpg.Record] = await connection.fetch(statement)
        return rows
    finally:
        await connection.close()
