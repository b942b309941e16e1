"""Access lines of requests without a key have the bound that the ledger has."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from apps.platform_api.http.middleware import access_log
from apps.platform_api.http.middleware.access_log import AccessLog
from platform_app.ledger.events.access_decision import AccessDecision
from platform_app.observability.context import RequestContext
from platform_app.observability.logging import configure_logging
from platform_app.observability.tracing.trace_context import continue_trace
from tests.support.fakes.log_lines import Lines
from tests.support.ledger.events import access

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.fixture
def lines() -> Lines:
    lines = Lines()
    configure_logging("info", "json", lines)
    return lines


def write(log: AccessLog, **fields: Any) -> AccessDecision:
    event = access(**{"key_id": None, "status": 401, "occurred_at": NOON, **fields})
    context = RequestContext(
        event.request_id, continue_trace(None), event.method, "192.0.2.1", 0.0, key_id=event.key_id
    )
    log.write(event, context, event.duration_ms / 1000, 0.0)
    return event


async def test_lines_beyond_the_bound_are_counted_in_one(lines: Lines) -> None:
    log = AccessLog(3)
    events = [write(log) for _ in range(10)]
    assert len(lines.all) == 3
    assert all("count" not in line for line in lines.all)
    log.flush()
    [line] = lines.all[3:]
    assert (line["event"], line["count"], line["status"]) == ("request", 7, 401)
    assert (line["request_id"], line["trace_id"]) == (events[3].request_id, events[3].trace_id)
    log.flush()
    assert len(lines.all) == 4


async def test_lines_with_a_key_are_never_counted(lines: Lines) -> None:
    log = AccessLog(0)
    for _ in range(20):
        write(log, key_id="k" * 12)
    log.flush()
    assert len(lines.all) == 20


async def test_counts_are_written_without_another_request(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "COUNTED_SECONDS", 0.01)
    log = AccessLog(0)
    write(log)
    async with asyncio.timeout(300):
        while not lines.all:
            await asyncio.sleep(0.01)
    assert lines.all[0]["count"] == 1
