"""Plain data about keys: status, what a change names, and what is shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from platform_app.auth.keys.records import UNSET, KeyChanges, StoredSecret
from tests.support.fakes.core import key_record

NOW = datetime(2026, 7, 1, tzinfo=UTC)
MOMENT = timedelta(microseconds=1)


@pytest.mark.parametrize(
    ("revoked_at", "expires_at", "status"),
    [
        (None, None, "active"),
        (None, NOW + MOMENT, "active"),
        (None, NOW, "expired"),
        (None, NOW - MOMENT, "expired"),
        (NOW, None, "revoked"),
        (NOW, NOW - MOMENT, "revoked"),
        (NOW + MOMENT, None, "revoked"),  # by another clock than ours
    ],
)
def test_status_of_a_record(revoked_at: datetime | None, expires_at: datetime | None, status: str) -> None:
    assert key_record(revoked_at=revoked_at, expires_at=expires_at).status(NOW) == status


def test_plain_is_json_with_current_status() -> None:
    plain = key_record(scopes=["platform:chat"], expires_at=NOW - timedelta(days=3650)).plain()
    assert plain["status"] == "expired"
    assert plain["expires_at"] == (NOW - timedelta(days=3650)).isoformat()
    assert orjson.loads(orjson.dumps(plain)) == plain


def test_changes_contain_given_fields_and_none() -> None:
    assert KeyChanges().fields() == {}
    changes = KeyChanges(name="x", allowed_models=None, limits={}, scopes=UNSET)
    assert changes.fields() == {"name": "x", "allowed_models": None, "limits": {}}


def test_changes_cover_every_changeable_field() -> None:
    fixed = {"key_id", "environment", "created_at", "created_by", "revoked_at", "revoked_by", "revoked_reason",
             "last_used_at"}  # fmt: skip
    record = key_record()
    assert set(KeyChanges.__dataclass_fields__) == set(record.__dataclass_fields__) - fixed
    everything = KeyChanges("n", "o", ["platform:chat"], None, None, NOW).fields()
    assert replace(record, **everything).name == "n"


def test_repr_contains_no_digest() -> None:
    assert "d1d1" not in repr(StoredSecret(bytes.fromhex("d1" * 32), 1, None))
    assert r"\xd1" not in repr(StoredSecret(bytes.fromhex("d1" * 32), 1, None))
