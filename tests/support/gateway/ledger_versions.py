"""The ledger's writer as earlier versions had it."""

import pytest

from platform_app.ledger.events.event import AccessDecision, LedgerEvent, UsageRecord
from platform_app.ledger.shipping import batch, tables
from platform_app.ledger.shipping.tables import ACCESS_DECISIONS, USAGE_RECORDS, Table


def ship_without_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as the version before migration 0005 does, which knows no column `count`, and none of later ones."""
    _ship_as(monkeypatch, _without(ACCESS_DECISIONS, "count"), _without(USAGE_RECORDS, "provider_usage"))


def ship_without_provider_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write as the version before migration 0006 does, which knows no column `provider_usage`."""
    _ship_as(monkeypatch, ACCESS_DECISIONS, _without(USAGE_RECORDS, "provider_usage"))


def _without(table: Table, column: str) -> Table:
    assert table.columns[-1] == column
    return Table(table.name, table.columns[:-1], lambda event: table.row(event)[:-1])


def _ship_as(monkeypatch: pytest.MonkeyPatch, decisions: Table, usage: Table) -> None:
    monkeypatch.setattr(batch, "TABLES", (decisions, usage))
    kinds: dict[type[LedgerEvent], Table] = {AccessDecision: decisions, UsageRecord: usage}
    for kind, table in kinds.items():
        monkeypatch.setitem(tables._TABLES, kind, table)
