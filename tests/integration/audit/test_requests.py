"""Finding a request by an id: what belongs together, and which owner finds it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from platform_app.errors import ValidationFailed
from platform_app.ledger.events.event import LedgerEvent
from platform_app.ledger.events.hops_and_attempts import attempts_text
from platform_app.ledger.reading.requests import FoundRequest, RequestFinder, parse_ids
from platform_app.ledger.reading.spooled import SpoolTooLargeError, search_spool
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.observability import ids
from platform_app.observability.record import AttemptRecord
from tests.support.ledger.database import session_on
from tests.support.ledger.events import access, spool_in, usage

NOW = datetime.now(UTC)


class Ledger:
    """A database with events, and look-ups in it."""

    def __init__(self, url: str, engine: AsyncEngine) -> None:
        self._url = url
        self._engine = engine

    async def ship(self, *events: LedgerEvent) -> None:
        async with session_on(self._url) as session:
            assert await Shipper(session).ship(batch_of(events)) == []

    async def run(self, statement: str, **parameters: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(text(statement), parameters)

    async def find(self, identifier: str, only_owner: str | None = None, *spooled: LedgerEvent) -> list[FoundRequest]:
        finder = RequestFinder(self._engine)
        return list(await finder.find(parse_ids(identifier), only_owner=only_owner, spooled=spooled))


@pytest.fixture
async def ledger(own_url: str) -> AsyncIterator[Ledger]:
    engine = create_async_engine(own_url)
    yield Ledger(own_url, engine)
    await engine.dispose()


def same_request(seconds_ago: float, **fields: Any) -> tuple[Any, Any]:
    """The decision and the usage record of a request that took a second."""
    ended = NOW - timedelta(seconds=seconds_ago)
    shared = {"request_id": "mine", "trace_id": ids.trace_id(), **fields}
    record = usage(occurred_at=ended - timedelta(milliseconds=812.5), **shared)
    return access(occurred_at=ended, duration_ms=1000.0, **shared), record


async def test_retry_with_same_id_is_found_as_two_requests(ledger: Ledger) -> None:
    """Each has its own usage record, and its only attempt is that record's."""
    (late, late_usage), (early, early_usage) = same_request(0), same_request(30)
    await ledger.ship(early, late, early_usage, late_usage, access(), usage())
    newest, oldest = await ledger.find("mine")
    for found, decision, record in ((newest, late, late_usage), (oldest, early, early_usage)):
        assert found.access is not None
        assert found.usage is not None
        assert (found.access["id"], found.usage["id"]) == (decision.event_id, record.event_id)
        assert found.attempts == [
            {
                "provider": "openai",
                "upstream_model": "gpt-4o-mini-2024-07-18",
                "start_ms": 187.5,
                "duration_ms": 812.5,
                "outcome": "ok",
                "status": 200,
                "upstream_request_id": "req_1",
                "sent": True,
                "message": None,
            }
        ]
        assert [hop["name"] for hop in found.hops] == ["limits"]
        assert found.stored


async def test_trace_id_and_traceparent_find_whole_trace(ledger: Ledger) -> None:
    trace = ids.trace_id()
    await ledger.ship(
        access(trace_id=trace, request_id="one"),
        access(trace_id=trace, request_id="two", occurred_at=NOW - timedelta(seconds=60)),
        access(),
    )
    for identifier in (trace, trace.upper(), f"00-{trace}-00f067aa0ba902b7-01", f" {trace}\n"):
        found = await ledger.find(identifier)
        assert [each.access["request_id"] for each in found if each.access] == ["one", "two"]
        assert all(each.usage is None for each in found)


async def test_id_of_32_hex_digits_finds_requests_and_traces(ledger: Ledger) -> None:
    request_id = ids.request_id()
    await ledger.ship(access(request_id=request_id), access(trace_id=request_id, request_id="other"))
    assert len(await ledger.find(request_id)) == 2


async def test_interrupted_call_is_found_without_a_decision(ledger: Ledger) -> None:
    """The worker died, so only what the intent left is stored."""
    await ledger.ship(usage(request_id="lost", outcome="interrupted"))
    [found] = await ledger.find("lost")
    assert found.access is None
    assert found.usage is not None
    assert (found.usage["outcome"], list(found.attempts)) == ("interrupted", [])


async def test_attempts_arrive_as_they_were_written(ledger: Ledger) -> None:
    message = 'it said "no\\way",\u2028 \U0001f600'
    failed = AttemptRecord("a", "m", "m-1", "chat", False, 10.0, ended=10.5, outcome="provider_error", status=500)
    failed.message, failed.upstream_request_id = message, "req,]\n"
    unsent = AttemptRecord("b", "m", "m-2", "chat", False, 11.0, ended=11.0, outcome="breaker_open")
    await ledger.ship(access(request_id="mine", attempts=attempts_text([failed, unsent], 10.0)))
    [found] = await ledger.find("mine")
    first, second = found.attempts
    assert (first["message"], first["upstream_request_id"]) == (message, "req,] ")
    assert (first["status"], first["duration_ms"]) == (500, 500.0)
    assert (second["outcome"], second["sent"]) == ("breaker_open", False)


async def test_other_owner_finds_nothing(ledger: Ledger) -> None:
    decision, record = same_request(0, owner="mine")
    keyless = access(request_id="mine", key_id=None, owner=None)
    await ledger.run(
        "INSERT INTO api_keys (key_id, name, owner, environment, scopes, created_by) "
        "VALUES (:id, 'n', 'mine', 'test', ARRAY['platform:chat'], 'tests')",
        id=decision.key_id,
    )
    await ledger.ship(decision, record, keyless)
    assert len(await ledger.find("mine")) == 2
    [own] = await ledger.find("mine", "mine")
    assert own.access is not None
    assert own.access["id"] == decision.event_id
    assert await ledger.find("mine", "theirs") == []
    assert await ledger.find(decision.trace_id, "theirs") == []


async def test_recorded_owner_decides_before_later_moves(ledger: Ledger) -> None:
    """The row names the owner that the key had, whatever the lifecycle events say."""
    await ledger.run(
        "INSERT INTO api_keys (key_id, name, owner, environment, scopes, created_by) "
        "VALUES (:id, 'n', 'today', 'test', ARRAY['platform:chat'], 'tests')",
        id="k" * 12,
    )
    await ledger.run(
        "INSERT INTO audit_events (actor, action, target, before, after) "
        """VALUES ('cli', 'api_key.update', :id, '{"owner": "then"}', '{"owner": "today"}')""",
        id="k" * 12,
    )
    earlier = NOW - timedelta(seconds=60)  # before the key moved
    await ledger.ship(
        access(request_id="named", owner="then", occurred_at=earlier),
        access(request_id="before", owner=None, occurred_at=earlier),
    )
    for request_id in ("named", "before"):
        assert len(await ledger.find(request_id, "then")) == 1
        assert await ledger.find(request_id, "today") == []


async def test_spooled_events_are_added_once(ledger: Ledger) -> None:
    decision, record = same_request(0)
    await ledger.ship(decision)
    [found] = await ledger.find("mine", None, decision, record)
    assert found.usage is not None
    assert (found.usage["id"], found.stored) == (record.event_id, False)


def test_spool_search_finds_lines_with_a_mark(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    mine = access(request_id="mine")
    for event in (access(), mine, usage()):
        spool.append(event.line())
    assert list(search_spool(tmp_path, [b"mine"], 1 << 20)) == [mine]
    with pytest.raises(SpoolTooLargeError):
        list(search_spool(tmp_path, [b"mine"], 10))
    spool.close()


@pytest.mark.parametrize("identifier", ["", "a b", "x" * 129, "a/b", "é"])
def test_malformed_id_is_refused(identifier: str) -> None:
    with pytest.raises(ValidationFailed):
        parse_ids(identifier)


async def test_look_up_uses_the_indexes(ledger: Ledger) -> None:
    """Without them it would read every partition."""
    await ledger.ship(access(), usage())
    async with ledger._engine.connect() as connection:
        await connection.execute(text("SET enable_seqscan = off"))
        for table in ("access_decisions", "usage_records"):
            for condition in ("request_id = 'x'", f"trace_id = '{ids.trace_id()}'"):
                statement = f"EXPLAIN SELECT * FROM {table} WHERE {condition} ORDER BY occurred_at DESC LIMIT 100"
                plan = "\n".join(row[0] for row in await connection.execute(text(statement)))
                assert condition.split(" ")[0] in plan.partition("Index Cond")[2], plan
