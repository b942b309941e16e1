"""The ledger's writer as earlier versions had it."""

import pytest

from platform_app.ledger import batch, tables
from platform_app.ledger.event import AccessDecision
from platform_app.ledger.tables import ACCESS_DECISIONS, USAGE_RECORDS, Table


def ship_without_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write access decisions as the version before migration 0005 does, which knows no column `count`."""
    assert ACCESS_DECISIONS.columns[-1] == "count"
    before = Table(ACCESS_DECISIONS.name, ACCESS_DECISIONS.columns[:-1], lambda event: ACCESS_DECISIONS.row(event)[:-1])
    monkeypatch.setattr(batch, "TABLES", (before, USAGE_RECORDS))
    monkeypatch.setitem(tables._TABLES, AccessDecision, before)
