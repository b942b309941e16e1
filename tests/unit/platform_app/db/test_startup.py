"""The wait for the database at start: what it waits for, what it refuses at once, and what it logs."""

import ssl
from typing import Any

import pytest
from structlog.testing import capture_logs

from platform_app.db import startup
from platform_app.db.startup import LONGEST_PAUSE_SECONDS, DatabaseNotUsableError, revision_when_usable

ENGINE: Any = None


class Database:
    """Responds with these errors in turn, then with the revision 0007."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.pauses: list[float] = []

    async def current_revision(self, _engine: Any) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "0007"

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


def database(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> Database:
    made = Database(*errors)
    monkeypatch.setattr(startup, "current_revision", made.current_revision)
    return made


async def test_start_waits_and_logs_each_new_cause_once(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = [ConnectionRefusedError(111, "refused") for _ in range(8)]
    made = database(monkeypatch, *refused, TimeoutError(), TimeoutError())
    with capture_logs() as lines:
        assert await revision_when_usable(ENGINE, 600, made.sleep) == "0007"
    assert len(made.pauses) == 10
    assert min(made.pauses) > 0
    assert max(made.pauses) <= LONGEST_PAUSE_SECONDS
    assert [line["event"] for line in lines] == ["dependency_awaited"] * 2


async def test_start_gives_up_after_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    made = database(monkeypatch, *[ConnectionRefusedError(111, "refused")] * 3)
    with pytest.raises(DatabaseNotUsableError, match="after 0 s"):
        await revision_when_usable(ENGINE, 0, made.sleep)
    assert made.pauses == []


async def test_start_refuses_at_once_what_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = 18  # as OpenSSL sets it: self-signed
    made = database(monkeypatch, error)
    with pytest.raises(DatabaseNotUsableError) as caught:
        await revision_when_usable(ENGINE, 600, made.sleep)
    assert "after" not in str(caught.value)
    assert made.pauses == []


async def test_start_passes_a_bug_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made = database(monkeypatch, KeyError("bug"))
    with pytest.raises(KeyError):
        await revision_when_usable(ENGINE, 600, made.sleep)
