"""The maintenance of partitions continues after any exception of one round."""

from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from platform_app.ledger.shipping import partitions
from platform_app.ledger.shipping.partitions import (
    MAINTENANCE_SECONDS,
    RETRY_SECONDS,
    MaintenanceReport,
    maintain_forever,
)
from platform_app.ledger.shipping.tables import Retention
from platform_app.ledger.spool.session import DatabaseUnavailableError, LedgerSession


class Session:
    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class EnoughError(Exception):
    """Ends the endless loop."""


async def test_round_that_raises_anything_is_followed_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[MaintenanceReport | Exception] = [
        ValueError("a bug"), DatabaseUnavailableError("down"), MaintenanceReport(ran=True)
    ]  # fmt: skip
    session, pauses = Session(), []

    async def maintain(*_: object) -> MaintenanceReport:
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if not results:
            raise EnoughError

    monkeypatch.setattr(partitions, "maintain", maintain)
    monkeypatch.setattr(partitions, "asyncio", SimpleNamespace(sleep=sleep))
    with capture_logs() as logs, pytest.raises(EnoughError):
        await maintain_forever(cast(LedgerSession, session), cast(Retention, None))
    assert [line["event"] for line in logs] == ["ledger_maintenance_bug", "ledger_maintenance_failed"]
    assert session.closed == 3
    assert [pause < 2 * RETRY_SECONDS for pause in pauses] == [True, True, False]
    assert pauses[2] > MAINTENANCE_SECONDS / 2
