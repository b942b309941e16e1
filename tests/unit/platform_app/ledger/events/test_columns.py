"""What one declaration of a field gives: line, row of COPY, table and report."""

import csv
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.db.models import Base
from platform_app.ledger.events.access_decision import ACCESS
from platform_app.ledger.events.columns import Columns
from platform_app.ledger.events.event import AccessDecision, UsageRecord
from platform_app.ledger.events.usage_record import USAGE
from platform_app.ledger.shipping.tables import TABLES, Table
from platform_app.ledger.spool.segments import LINE_VERSION
from tests.support.ledger.events import access, usage

MOMENT = datetime(2026, 6, 15, 12, 30, tzinfo=UTC)
ID, TRACE = "0123456789abcdef" * 2, "fedcba9876543210" * 2
ACCESS_LINE = (
    b'["access","2026-06-15T12:30:00+00:00","0123456789abcdef0123456789abcdef","kkkkkkkkkkkk","POST",'
    b'"/v1/platform/chat","deny","rate_limited",429,12.5,1,"r","fedcba9876543210fedcba9876543210","192.0.2.7",'
    b'"billing","gpt-4o-mini","limits 147 2110",null]\n'
)
USAGE_LINE = (
    b'["usage","2026-06-15T12:30:00+00:00","0123456789abcdef0123456789abcdef","kkkkkkkkkkkk","billing",'
    b'"/v1/platform/chat","openai","gpt-4o-mini","gpt-4o-mini-2024-07-18",false,100,20,40,false,'
    b'"{\\"prompt_tokens\\": 100, \\"completion_tokens\\": 20}",27,812.5,null,1,"ok","r",'
    b'"fedcba9876543210fedcba9876543210","req_1",null,null]\n'
)


def test_lines_are_as_their_version_says() -> None:
    """A change here needs another LINE_VERSION: processes of two versions share a spool during an upgrade."""
    ids: dict[str, Any] = {"event_id": ID, "trace_id": TRACE, "occurred_at": MOMENT, "request_id": "r"}
    decision = access(**ids, decision="deny", reason="rate_limited", status=429, client_address="192.0.2.7")
    assert LINE_VERSION == 4
    assert decision.line() == ACCESS_LINE
    assert usage(**ids).line() == USAGE_LINE


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_fields_are_the_columns_of_the_table(table: Table) -> None:
    assert set(table.columns.names) == set(Base.metadata.tables[table.name].columns.keys())


@pytest.mark.parametrize(("columns", "event"), [(ACCESS, AccessDecision), (USAGE, UsageRecord)])
def test_lines_begin_with_time_and_id(columns: Columns[Any], event: type[Any]) -> None:
    assert columns.names == tuple(field.name for field in fields(event))
    assert columns.names[:2] == ("occurred_at", "event_id")


@given(st.text(max_size=40), st.text('"\\,\n\t\r\x00ab{}[]', max_size=20), st.none() | st.text('"\\,', max_size=9))
def test_line_without_brackets_is_a_row_of_csv(request_id: str, route: str, reason: str | None) -> None:
    """As COPY reads it: quotes are escaped by backslashes, and a null has no quotes."""
    event = access(request_id=request_id, route=route, reason=reason)
    line = event.line().decode()
    [row] = csv.reader([line[1:-2]], doublequote=False, escapechar="\\", strict=True)
    kind, *values = row
    decoded = ACCESS.decode_values(orjson.loads(line)[1:])
    shown = [getattr(decoded, name) for name in ACCESS.names]
    expected = ["null" if value is None else str(value) for value in shown]
    expected[0] = decoded.occurred_at.isoformat()
    assert (kind, values) == ("access", expected)


def test_report_shows_each_column_once() -> None:
    row = {name: getattr(usage(cost_microusd=1_250_000, duration_ms=1.23456), name) for name in USAGE.names}
    shown = USAGE.show(row | {"event_id": UUID(ID), "trace_id": UUID(TRACE), "occurred_at": MOMENT})
    assert list(shown)[:3] == ["id", "occurred_at", "key_id"]
    assert shown.keys() == set(USAGE.names) - {"event_id", "cost_microusd"} | {"id", "cost_usd"}
    assert (shown["id"], shown["trace_id"], shown["occurred_at"]) == (ID, TRACE, "2026-06-15T12:30:00+00:00")
    assert (shown["cost_usd"], shown["duration_ms"], shown["first_token_ms"]) == ("1.250000", 1.235, None)
