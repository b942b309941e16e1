"""Advisory locks: every number is declared once, and no two features share one."""

import re
from pathlib import Path

import platform_app
from platform_app.db import advisory_locks
from platform_app.db.advisory_locks import AdvisoryLock
from platform_app.db.migrations import script_location
from tests.support.ledger.database import ROLES

PACKAGE = Path(platform_app.__file__).parent
NUMBER = re.compile(r"\b7_?202_?811_?\d{3}\b")
LOCK_CALL = re.compile(r"pg_(?:try_)?advisory_\w+\(([^)]*)\)")


def sources() -> list[Path]:
    folders = (PACKAGE, PACKAGE.parent / "apps", script_location())
    return [path for folder in folders for path in folder.rglob("*.py") if path != Path(advisory_locks.__file__)]


def test_advisory_lock_numbers_are_distinct_bigints() -> None:
    # Not `for lock in AdvisoryLock`: an alias of another member would be left out there.
    numbers = [lock.value for lock in AdvisoryLock.__members__.values()]
    assert len(numbers) == len(set(numbers)) == 5
    assert all(0 < number < 2**63 for number in numbers)


def test_advisory_lock_numbers_stand_in_one_file() -> None:
    """A migration is frozen, and roles.sql is plain SQL: they name declared numbers themselves."""
    found = {(path.name, int(number)) for path in [*sources(), ROLES] for number in NUMBER.findall(path.read_text())}
    assert found == {
        ("0002_access_decisions.py", AdvisoryLock.PARTITION_CREATION),
        ("roles.sql", AdvisoryLock.MIGRATIONS),
    }


def test_advisory_lock_calls_take_declared_numbers() -> None:
    """Every call binds a parameter, or names a declared number."""
    arguments = {argument for path in sources() for argument in LOCK_CALL.findall(path.read_text())}
    assert arguments
    members = {f"AdvisoryLock.{name}" for name in AdvisoryLock.__members__}
    assert arguments <= {":lock", "$1", str(AdvisoryLock.PARTITION_CREATION.value), *members}
