"""What `/readyz` says about the ledger: whether requests can be recorded, and why not."""

import shutil
from pathlib import Path

import pytest

from platform_app.ledger.service import SpooledLedger
from platform_app.ledger.spool.pending import PendingLines
from platform_app.ledger.spool.segments import list_directory
from platform_app.ledger.spool.spool import FullPolicy, Spool
from tests.support.ledger.events import access, spool_in


def ledger_on(spool: Spool) -> SpooledLedger:
    return SpooledLedger(spool, PendingLines(spool.directory / "one.pending"), 60)


def test_ledger_that_records_has_no_problem(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    ledger = ledger_on(spool)
    ledger.append(access(key_id="k1"))
    assert ledger.problem() is None
    spool.close()


@pytest.mark.parametrize(("policy", "why"), [("refuse", "No such file or directory"), ("drop_oldest", None)])
def test_problem_names_why_the_disk_refuses(tmp_path: Path, policy: FullPolicy, why: str | None) -> None:
    """And none where requests are processed all the same."""
    directory = tmp_path / "spool"
    spool = spool_in(directory, policy=policy)
    ledger = ledger_on(spool)
    shutil.rmtree(directory)
    ledger.append(access(key_id="k1"))
    assert ledger.problem() == (why and f"the disk of the spool refuses writes: {why}")
    directory.mkdir()
    spool.retry()
    assert ledger.problem() is None
    spool.close()


@pytest.mark.parametrize(("policy", "problem"), [("refuse", "the spool is full"), ("drop_oldest", None)])
def test_full_spool_is_a_problem_where_requests_are_refused(
    tmp_path: Path, policy: FullPolicy, problem: str | None
) -> None:
    spool = spool_in(tmp_path, max_bytes=10, policy=policy)
    ledger = ledger_on(spool)
    ledger.append(access(key_id="k1"))
    spool.measured(list_directory(tmp_path), spool.mark())
    assert ledger.problem() == problem
    spool.close()
