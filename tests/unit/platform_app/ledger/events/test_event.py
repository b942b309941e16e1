import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.ledger.events.event import MAX_LINE_BYTES, AccessDecision, BadLineError, decode
from tests.support.ledger.events import access
from tests.support.ledger.versions import line_of_version_1


def texts(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=longest)


def members(event: AccessDecision, **changes: Any) -> bytes:
    """A line of version 1 with some members changed."""
    return orjson.dumps(orjson.loads(line_of_version_1(event)) | changes)


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
    owner=st.none() | texts(256),
    model=st.none() | texts(256),
    hops=st.none() | texts(100),
    attempts=st.none()
    | st.lists(st.lists(texts(20) | st.integers(0, 999), max_size=9)).map(lambda rows: orjson.dumps(rows).decode()),
)


@given(events)
def test_line_decodes_to_same_event(event: AccessDecision) -> None:
    line = event.line()
    assert (line.count(b"\n"), line[-2:]) == (1, b"]\n")
    assert line.startswith(b'["access",')
    assert decode(line) == decode(line[:-1]) == event
    assert decode(line_of_version_1(event)) == event


@given(events, st.data())
def test_torn_line_is_refused(event: AccessDecision, data: st.DataObject) -> None:
    line = event.line()[:-1]
    with pytest.raises(BadLineError):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(line: bytes) -> None:
    with pytest.raises(BadLineError):
        decode(line)


@given(st.sampled_from([*AccessDecision.__slots__, "kind"]), json_values)
def test_accepted_value_survives_another_line(name: str, value: Any) -> None:
    try:
        event = decode(json.dumps(json.loads(line_of_version_1(access())) | {name: value}).encode())
    except BadLineError:
        return
    assert decode(event.line()).line() == event.line()


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
def test_value_that_no_column_accepts_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadLineError):
        decode(members(access(), **{name: value}))


def test_error_contains_no_value_of_the_line() -> None:
    with pytest.raises(BadLineError) as caught:
        decode(members(access(), request_id="canary\x00"))
    assert "canary" not in str(caught.value)
    assert len(b"x" * (MAX_LINE_BYTES + 1)) > MAX_LINE_BYTES
    with pytest.raises(BadLineError):
        decode(b"x" * (MAX_LINE_BYTES + 1))


def test_unknown_members_of_version_1_are_ignored() -> None:
    event = access()
    assert decode(members(event, tenant="later")) == event


def test_line_with_too_few_or_too_many_values_is_refused() -> None:
    values = orjson.loads(access().line())
    changes: tuple[list[Any], ...] = (values[:-8], [*values, "another"], [], [None], ["access"], [[]])
    for changed in changes:
        with pytest.raises(BadLineError):
            decode(orjson.dumps(changed))


def test_line_of_version_2_has_none_of_the_later_fields() -> None:
    values = orjson.loads(access(request_id="r").line())
    earlier = decode(orjson.dumps(values[:-4]))
    assert isinstance(earlier, AccessDecision)
    assert (earlier.request_id, earlier.owner, earlier.model, earlier.hops, earlier.attempts) == ("r", *[None] * 4)


def test_attempts_that_are_no_array_are_left_out() -> None:
    for text in ('{"a": 1}', "[", "1", f'["{"x" * 5000}"]'):
        event = decode(access(attempts=text).line())
        assert isinstance(event, AccessDecision)
        assert event.attempts is None


def test_line_without_count_stands_for_one_request() -> None:
    """Versions before the field `count` wrote none."""
    old = orjson.loads(line_of_version_1(access(count=7)))
    del old["count"]
    assert decode(orjson.dumps(old)) == decode(orjson.dumps(old | {"count": 1}))


def test_values_out_of_bounds_are_written_as_bounds() -> None:
    event = decode(access(status=70_000, duration_ms=-1.0, count=-5).line())
    assert isinstance(event, AccessDecision)
    assert (event.status, event.duration_ms, event.count) == (999, 0, 0)


def test_control_characters_and_surrogates_are_replaced() -> None:
    event = decode(access(request_id="a\tb\nc\x00d\ud800e", route='back\\slash"quote').line())
    assert isinstance(event, AccessDecision)
    assert (event.request_id, event.route) == ("a\ufffdb\ufffdc\ufffdd?e", 'back\\slash"quote')


def test_time_of_another_zone_becomes_utc() -> None:
    there = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    line = access(occurred_at=there).line()
    assert line.startswith(b'["access","2026-02-28T23:30:00'), "the day of the line is the day in UTC"
    event = decode(line)
    assert event.occurred_at == there
    assert event.occurred_at.tzinfo is UTC
    assert event.occurred_at.date().isoformat() == "2026-02-28"


@pytest.mark.parametrize(
    ("address", "stored"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("unix", None),
        ("", None),
    ],
)
def test_only_ip_addresses_and_networks_are_stored(address: str, stored: str | None) -> None:
    event = decode(access(client_address=address).line())
    assert isinstance(event, AccessDecision)
    assert event.client_address == stored
