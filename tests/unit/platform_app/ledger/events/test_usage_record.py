import json
import math
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.ledger.events.event import MAX_LINE_BYTES, BadLineError, UsageRecord, decode
from platform_app.ledger.events.usage_record import MAX_ATTEMPTS, MAX_COST_MICROUSD, MAX_NAME, MAX_TOKENS
from tests.support.gateway.ledger_events import usage

names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=MAX_NAME)
ids_ = st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")
tokens = st.integers(0, MAX_TOKENS)
times_ms = st.floats(0, 1e9, allow_nan=False)
records = st.builds(
    UsageRecord,
    event_id=ids_,
    occurred_at=st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - bounds are naive there
    request_id=names,
    trace_id=ids_,
    key_id=names,
    owner=names,
    route=names,
    provider=names,
    model=names,
    upstream_model=names,
    stream=st.booleans(),
    prompt_tokens=tokens,
    completion_tokens=tokens,
    cached_tokens=tokens,
    estimated=st.booleans(),
    cost_microusd=st.none() | st.integers(0, MAX_COST_MICROUSD),
    duration_ms=times_ms,
    first_token_ms=st.none() | times_ms,
    attempts=st.integers(0, MAX_ATTEMPTS),
    outcome=names,
)


@given(records)
def test_a_line_gives_the_same_record_again(record: UsageRecord) -> None:
    line = record.line()
    assert line.startswith(b'{"kind":"usage",')
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert len(line) <= MAX_LINE_BYTES
    assert decode(line) == decode(line[:-1]) == record


@given(records, st.data())
def test_a_torn_line_is_no_record(record: UsageRecord, data: st.DataObject) -> None:
    line = record.line()[:-1]
    with pytest.raises(BadLineError):
        decode(line[: data.draw(st.integers(0, len(line) - 1))])


@given(
    st.builds(
        usage,
        request_id=st.text("\u0001\U0001f600x", min_size=MAX_NAME, max_size=2000),
        owner=st.text("\u0001\U0001f600x", min_size=MAX_NAME, max_size=2000),
        upstream_model=st.text("\u0001\U0001f600x", min_size=MAX_NAME, max_size=2000),
        prompt_tokens=st.integers(),
        cached_tokens=st.integers(),
        cost_microusd=st.integers(),
        duration_ms=st.floats(),
        first_token_ms=st.floats(),
        attempts=st.integers(),
    )
)
def test_whatever_is_appended_is_taken_by_readers(record: UsageRecord) -> None:
    line = record.line()
    assert len(line) <= MAX_LINE_BYTES
    again = decode(line)
    assert isinstance(again, UsageRecord)
    assert again.request_id == record.request_id[:MAX_NAME]
    assert again.prompt_tokens == min(max(record.prompt_tokens, 0), MAX_TOKENS)
    assert math.isfinite(again.duration_ms)
    assert again.line() == line


def test_the_longest_names_still_fit_a_line() -> None:
    texts = ("request_id", "key_id", "owner", "route", "provider", "model", "upstream_model", "outcome")
    for text in ("\u0001" * 999, "\U0001f600" * 999):
        record = usage(**dict.fromkeys(texts, text))
        assert len(record.line()) <= MAX_LINE_BYTES
        decode(record.line())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from([*UsageRecord.__slots__, "kind"]), json_values)
def test_any_value_is_taken_or_refused(name: str, value: Any) -> None:
    members = orjson.loads(usage().line()) | {name: value}
    try:
        event = decode(json.dumps(members).encode())
    except BadLineError:
        return
    assert decode(event.line()) == event


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("event_id", "G" * 32),
        ("occurred_at", "2026-01-01T00:00:00"),
        ("trace_id", "ab"),
        ("request_id", "a\x00b"),
        ("key_id", None),
        ("owner", "x" * (MAX_NAME + 1)),
        ("model", 1),
        ("stream", 1),
        ("stream", None),
        ("estimated", "no"),
        ("prompt_tokens", True),
        ("prompt_tokens", -1),
        ("completion_tokens", MAX_TOKENS + 1),
        ("cached_tokens", 1.0),
        ("cost_microusd", 0.5),
        ("cost_microusd", MAX_COST_MICROUSD + 1),
        ("duration_ms", None),
        ("duration_ms", -1),
        ("first_token_ms", "1"),
        ("attempts", MAX_ATTEMPTS + 1),
        ("outcome", None),
    ],
)
def test_what_no_column_takes_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadLineError) as caught:
        decode(orjson.dumps(orjson.loads(usage().line()) | {name: value}))
    assert name in str(caught.value)


def test_members_of_a_later_version_are_ignored_and_no_member_may_be_missing() -> None:
    record = usage()
    members = orjson.loads(record.line())
    assert decode(orjson.dumps(members | {"tenant": "later"})) == record
    for name in members.keys() - {"cost_microusd", "first_token_ms", "provider_usage"}:
        with pytest.raises(BadLineError):
            decode(orjson.dumps({each: value for each, value in members.items() if each != name}))
    before = {name: value for name, value in members.items() if name != "provider_usage"}
    assert decode(orjson.dumps(before)) == replace(record, provider_usage=None)
    without = decode(orjson.dumps(members | {"cost_microusd": None}))
    assert without == replace(record, cost_microusd=None)
    assert {field.name for field in fields(UsageRecord)} == members.keys() - {"kind"}


@pytest.mark.parametrize("odd", [5, "", "[]", "{", "null", '{"a":"\\u0000"}', "{" + " " * 1024 + "}", ["{}"]])
def test_odd_counts_of_a_provider_are_left_out(odd: object) -> None:
    """They are kept for people to look at, and not worth the record."""
    record = usage(provider_usage='{"prompt_tokens":1e30}')
    assert decode(record.line()) == record
    members = orjson.loads(record.line()) | {"provider_usage": odd}
    assert decode(orjson.dumps(members)) == replace(record, provider_usage=None)
