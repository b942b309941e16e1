import ipaddress
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.ledger.events.event import MAX_LINE_BYTES, AccessDecision, BadLineError, decode
from tests.support.gateway.ledger_events import access


def texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=longest)


ids_ = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
events = st.builds(
    AccessDecision,
    event_id=ids_,
    occurred_at=st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive there
    request_id=texts(128),
    trace_id=ids_,
    key_id=st.none() | texts(64),
    method=texts(32),
    route=texts(256),
    decision=st.sampled_from(["allow", "deny"]),
    reason=st.none() | texts(64),
    status=st.integers(0, 599),
    client_address=st.none() | st.ip_addresses().map(str) | st.just("2001:db8::/64"),
    duration_ms=st.floats(0, 1e9, allow_nan=False),
    count=st.integers(1, 2**31 - 1),
)


@given(events)
def test_a_line_gives_the_same_event_again(event: AccessDecision) -> None:
    line = event.line()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert line.startswith(b'{"kind":')
    assert decode(line) == decode(line[:-1]) == event


@given(events, st.data())
def test_a_torn_line_is_no_event(event: AccessDecision, data: st.DataObject) -> None:
    line = event.line()[:-1]
    with pytest.raises(BadLineError):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_event_or_a_bad_line(line: bytes) -> None:
    with pytest.raises(BadLineError):
        decode(line)


@given(st.sampled_from([*AccessDecision.__slots__, "kind"]), json_values)
def test_any_value_is_taken_or_refused(name: str, value: Any) -> None:
    members = orjson.loads(access().line()) | {name: value}
    try:
        event = decode(json.dumps(members).encode())
    except BadLineError:
        return
    again = decode(event.line())
    assert again == event


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("kind", "from-a-later-version"),
        ("event_id", "G" * 32),
        ("event_id", None),
        ("occurred_at", "2026-01-01T00:00:00"),
        ("occurred_at", "yesterday"),
        ("occurred_at", 12),
        ("occurred_at", "0001-01-01T00:00:00+23:00"),
        ("trace_id", "ab"),
        ("request_id", "a\x00b"),
        ("request_id", "x" * 1025),
        ("decision", "maybe"),
        ("status", 1000),
        ("status", "200"),
        ("duration_ms", -1),
        ("duration_ms", None),
        ("route", None),
        ("client_address", 1),
    ],
)
def test_what_no_column_takes_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadLineError):
        decode(orjson.dumps(orjson.loads(access().line()) | {name: value}))


def test_a_line_is_never_quoted_in_the_error() -> None:
    with pytest.raises(BadLineError) as caught:
        decode(orjson.dumps(orjson.loads(access().line()) | {"request_id": "canary\x00"}))
    assert "canary" not in str(caught.value)
    assert len(b"x" * (MAX_LINE_BYTES + 1)) > MAX_LINE_BYTES
    with pytest.raises(BadLineError):
        decode(b"x" * (MAX_LINE_BYTES + 1))


def test_members_of_a_later_version_are_ignored() -> None:
    event = access()
    assert decode(orjson.dumps(orjson.loads(event.line()) | {"tenant": "later"})) == event


def test_times_of_other_zones_become_utc() -> None:
    there = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    event = decode(access(occurred_at=there).line())
    assert event.occurred_at == there
    assert event.occurred_at.tzinfo is UTC
    assert event.occurred_at.date().isoformat() == "2026-02-28"


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unix", None),
        ("", None),
    ],
)
def test_only_ip_addresses_are_stored(address: str, stored: str | None) -> None:
    event = decode(access(client_address=address).line())
    assert isinstance(event, AccessDecision)
    found = event.client_address
    assert found == stored
    if found is not None:
        ipaddress.ip_address(found)
