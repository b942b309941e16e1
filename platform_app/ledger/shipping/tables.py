"""The ledger's tables: which events each one stores, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from platform_app.config import Settings
from platform_app.ledger.events.access_decision import ACCESS
from platform_app.ledger.events.columns import Columns
from platform_app.ledger.events.usage_record import USAGE


@dataclass(frozen=True, slots=True)
class Table:
    """A table for the events of one kind."""

    name: str
    columns: Columns[Any]

    @property
    def line_start(self) -> bytes:
        """Return what is before the first column in each line."""
        return b'["%s",' % self.columns.kind.encode()


ACCESS_DECISIONS = Table("access_decisions", ACCESS)
USAGE_RECORDS = Table("usage_records", USAGE)

TABLES = (ACCESS_DECISIONS, USAGE_RECORDS)
"""Every transaction fills them in this order, so that two transactions cannot wait for each other. The
trigger of the last table takes locks that writers share, so they are held as briefly as possible."""

Retention = Mapping[Table, int]
"""How many days before today each table keeps."""


def retention_of(settings: Settings) -> Retention:
    """Return the days that the settings keep."""
    return {ACCESS_DECISIONS: settings.retention_days, USAGE_RECORDS: settings.usage_retention_days}
