"""Charges of dead processes: sent until the limiter took them, and then forgotten."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from platform_app.errors import LimiterUnavailable
from platform_app.ledger.shipping.orphan_charges import MAX_AGE_SECONDS, OrphanCharges
from platform_app.ledger.spool.segments import CHARGES, Orphans, list_directory
from tests.support.fakes.core import Count

DEAD = "4711-0123abcd"


class Settler:
    """Takes each settlement once; the first `failures` calls find no Redis."""

    def __init__(self, failures: int = 0) -> None:
        self.taken: list[str] = []
        self._failures = failures

    async def settle(self, event_id: str, settlement: object) -> bool:
        if self._failures:
            self._failures -= 1
            raise LimiterUnavailable("away", retry_after=1)
        if settlement != [1]:
            raise ValueError("not a settlement")
        self.taken.append(event_id)
        return self.taken.count(event_id) == 1


@pytest.fixture
def orphans(tmp_path: Path) -> Iterator[Orphans]:
    charges = [orjson.dumps({"event_id": each, "settlement": [1]}) + b"\n" for each in ("a", "b")]
    (tmp_path / f"{DEAD}{CHARGES}").write_bytes(b"".join(charges))
    orphans = Orphans(tmp_path, "1-00000000")
    assert orphans.adopt(list_directory(tmp_path)) == [DEAD]
    yield orphans
    orphans.close()


async def test_charges_are_sent_again_until_all_are_taken(orphans: Orphans, tmp_path: Path) -> None:
    charged = Count("platform_ledger_orphan_charges_total", outcome="charged")
    settler = Settler(failures=2)
    charges = OrphanCharges(tmp_path, orphans, settler)
    for _ in range(2):
        await charges.send()
        assert (tmp_path / f"{DEAD}{CHARGES}").exists()
        orphans.adopt(list_directory(tmp_path))
        assert DEAD in orphans.owners, "the lock is kept for them"
    await charges.send()
    assert settler.taken == ["a", "b"]
    assert charged.grown == 2
    assert not (tmp_path / f"{DEAD}{CHARGES}").exists()
    await charges.send()
    assert settler.taken == ["a", "b"]
    orphans.adopt(list_directory(tmp_path))
    assert os.listdir(tmp_path) == [], "nothing is left of the dead process"


async def test_unusable_charges_hold_up_no_others(orphans: Orphans, tmp_path: Path) -> None:
    path = tmp_path / f"{DEAD}{CHARGES}"
    path.write_bytes(b'{"event_id"\n{"event_id":"x","settlement":[2]}\n[]\n{}\n' + path.read_bytes())
    invalid = Count("platform_ledger_orphan_charges_total", outcome="invalid")
    settler = Settler()
    await OrphanCharges(tmp_path, orphans, settler).send()
    assert (settler.taken, invalid.grown) == (["a", "b"], 4)
    assert not path.exists()


async def test_charges_that_are_too_old_are_given_up(orphans: Orphans, tmp_path: Path) -> None:
    """The limiter will not know much longer which it has taken."""
    path = tmp_path / f"{DEAD}{CHARGES}"
    old = time.time() - MAX_AGE_SECONDS - 60
    os.utime(path, (old, old))
    expired = Count("platform_ledger_orphan_charges_total", outcome="expired")
    settler = Settler()
    await OrphanCharges(tmp_path, orphans, settler).send()
    assert (settler.taken, expired.grown, path.exists()) == ([], 2, False)
