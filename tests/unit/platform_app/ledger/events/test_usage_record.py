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
from platform_app.ledger.events.usage_record import (
    MAX_ATTEMPTS,
    MAX_COST_MICROUSD,
    MAX_NAME,
    MAX_SESSION,
    MAX_TOKENS,
    USAGE,
)
from tests.support.ledger.events import usage
from tests.support.ledger.versions import line_of_version_1

names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=MAX_NAME)
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
    session=st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=MAX_SESSION),
    requested_model=st.none() | names,
)


@given(records)
def test_line_decodes_to_same_record(record: UsageRecord) -> None:
    line = record.line()
    assert line.startswith(b'["usage",')
    assert (line.count(b"\n"), line[-2:]) == (1, b"]\n")
    assert len(line) <= MAX_LINE_BYTES
    assert decode(line) == decode(line[:-1]) == record
    assert decode(line_of_version_1(record)) == record


def test_line_of_the_version_before_sessions_decodes() -> None:
    record = usage(session="s-1", requested_model="fast")
    kind, *values = orjson.loads(record.line())
    before = decode(orjson.dumps([kind, *values[:-2]]))
    assert isinstance(before, UsageRecord)
    assert (before.session, before.requested_model, before.upstream_request_id) == (None, None, "req_1")


@given(records, st.data())
def test_torn_line_is_refused(record: UsageRecord, data: st.DataObject) -> None:
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
def test_line_of_any_values_decodes(record: UsageRecord) -> None:
    line = record.line()
    assert len(line) <= MAX_LINE_BYTES
    again = decode(line)
    assert isinstance(again, UsageRecord)
    assert again.request_id == record.request_id[:MAX_NAME].replace("\u0001", "\ufffd")
    assert again.prompt_tokens == min(max(record.prompt_tokens, 0), MAX_TOKENS)
    assert math.isfinite(again.duration_ms)
    assert again.line() == line


def test_longest_names_fit_a_line() -> None:
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
def test_accepted_value_survives_another_line(name: str, value: Any) -> None:
    try:
        event = decode(json.dumps(json.loads(line_of_version_1(usage())) | {name: value}).encode())
    except BadLineError:
        return
    assert decode(event.line()).line() == event.line()


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
def test_value_that_no_column_accepts_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadLineError) as caught:
        decode(orjson.dumps(orjson.loads(line_of_version_1(usage())) | {name: value}))
    assert name in str(caught.value)
    values = [value if each == name else getattr(usage(), each) for each in USAGE.names]
    with pytest.raises(BadLineError) as caught:
        decode(orjson.dumps(["usage", *values]))
    assert name in str(caught.value)


def test_members_of_version_1_are_required_but_nullable_ones() -> None:
    record = usage()
    members = orjson.loads(line_of_version_1(record))
    assert decode(orjson.dumps(members | {"tenant": "later"})) == record
    nullable = {"cost_microusd", "first_token_ms", "provider_usage", "upstream_request_id"}
    for name in members.keys() - nullable - {"session", "requested_model"}:
        with pytest.raises(BadLineError):
            decode(orjson.dumps({each: value for each, value in members.items() if each != name}))
    before = {name: value for name, value in members.items() if name != "provider_usage"}
    assert decode(orjson.dumps(before)) == replace(record, provider_usage=None)
    without = decode(orjson.dumps(members | {"cost_microusd": None}))
    assert without == replace(record, cost_microusd=None)
    assert {field.name for field in fields(UsageRecord)} == members.keys() - {"kind"}


@pytest.mark.parametrize("odd", [5, "", "[]", "{", "null", '{"a":"\\u0000"}', "{" + " " * 1024 + "}", ["{}"]])
def test_provider_usage_without_object_is_left_out(odd: object) -> None:
    """They are kept for people to look at, and not worth the record."""
    record = usage(provider_usage='{"prompt_tokens":1e30}')
    assert decode(record.line()) == record
    members = orjson.loads(line_of_version_1(record)) | {"provider_usage": odd}
    assert decode(orjson.dumps(members)) == replace(record, provider_usage=None)
