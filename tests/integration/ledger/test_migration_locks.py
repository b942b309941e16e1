"""No migration blocks a table that is in use: squawk (https://squawkhq.com) reads the statements of each revision."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from platform_app.db.migrations import revisions_in_order, upgrade

SQUAWK = Path(sys.executable).with_name("squawk")
NOT_OURS = {
    "require-timeout-settings": "migrations/env.py sets both timeouts for the session",
    "prefer-robust-stmts": "each revision is a transaction, so it is repeated as a whole",
    "ban-concurrent-index-creation-in-transaction": "Alembic's autocommit block ends the transaction before them",
    "prefer-bigint-over-int": "takes no lock; the range of each column is checked",
    "prefer-bigint-over-smallint": "takes no lock; the range of each column is checked",
    "prefer-text-field": "takes no lock",
}
"""Rules that do not apply, and why."""
ACCEPTED = {("0004", "require-concurrent-index-creation")}
"""The index of a change of owner: the audit has a row for each change of a key, which an index takes in a moment."""


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that change the schema."""
    found: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        # An index of a partitioned table `ON ONLY` itself has no rows, and squawk does not know that.
        if not statement.lstrip().upper().startswith(("SELECT", "SET", "SHOW")) and " ON ONLY " not in statement:
            found.append(statement.strip().rstrip(";"))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def problems(sql: str, file: Path) -> list[dict[str, Any]]:
    """Return what squawk finds."""
    file.write_text(sql)
    done = subprocess.run(
        [
            SQUAWK,
            "--reporter",
            "json",
            "--pg-version",
            "14.0",
            "--assume-in-transaction",
            "--exclude",
            ",".join(NOT_OURS),
            file,
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout or "[]")
    return found


def test_no_migration_takes_a_lock_that_blocks_requests(empty_database: str, tmp_path: Path) -> None:
    found = set()
    for revision in revisions_in_order():
        with statements() as run:
            upgrade(empty_database, revision)
        assert any("alembic_version" in statement for statement in run), "statements were collected"
        sql = "".join(f"{statement};\n" for statement in run)
        found |= {(revision, problem["rule_name"]) for problem in problems(sql, tmp_path / f"{revision}.sql")}
    assert found == ACCEPTED


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("CREATE INDEX i ON access_decisions (owner);", "require-concurrent-index-creation"),
        ("ALTER TABLE api_keys ADD COLUMN x int NOT NULL;", "adding-required-field"),
        ("ALTER TABLE api_keys ALTER COLUMN name TYPE text;", "changing-column-type"),
        ("ALTER TABLE api_keys ADD CONSTRAINT c CHECK (name <> '');", "constraint-missing-not-valid"),
    ],
)
def test_statement_that_blocks_is_found(sql: str, rule: str, tmp_path: Path) -> None:
    assert rule in {problem["rule_name"] for problem in problems(sql, tmp_path / "bad.sql")}
