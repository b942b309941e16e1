"""The segment and the charges that recovery writes, and what it says of a dead process."""

import stat
from pathlib import Path

import pytest

from platform_app.ledger.events.event import decode
from platform_app.ledger.events.intents import HEAD, PendingIntent
from platform_app.ledger.events.usage_record import INTERRUPTED, UsageRecord
from platform_app.ledger.spool import recovery
from platform_app.ledger.spool.pending import PendingLines
from platform_app.ledger.spool.recovery import Recovered, recover
from platform_app.ledger.spool.segments import CHARGES, PENDING, Listing, list_directory, segment_path
from tests.support.ledger.events import access, open_files, usage
from tests.support.ledger.versions import line_of_version_1

DEAD, EARLIER, LATER = "4711-0123abcd", "4710-0123abcd", "4712-0123abcd"
NOW_MS = 1_790_000_000_000
SETTLEMENT = [{"holder": "abc", "at": 1, "counters": [["fbp:rl:{k}:c", 3, 10, 10, 60_000_000]]}]


@pytest.fixture
def left(tmp_path: Path) -> PendingLines:
    """The pending lines of a process that will not live to end them."""
    return PendingLines(tmp_path / f"{DEAD}{PENDING}", HEAD)


def begun() -> UsageRecord:
    return usage(outcome=INTERRUPTED, estimated=True, duration_ms=0.0)


def end_of(record: UsageRecord) -> bytes:
    return usage(event_id=record.event_id, occurred_at=record.occurred_at).line()


def segment(directory: Path, created_ms: int, owner: str, sequence: int, *lines: bytes) -> Path:
    path = segment_path(directory, created_ms, owner, sequence).with_suffix(".seg")
    path.write_bytes(b"".join(lines))
    return path


def recovered(directory: Path) -> Recovered:
    found = recover(directory, DEAD, NOW_MS)
    assert found is not None
    return found


def test_segment_follows_the_last_one_of_its_owner(left: PendingLines, tmp_path: Path) -> None:
    segment(tmp_path, NOW_MS - 5, EARLIER, 9, access().line())
    for sequence in (2, 3):
        segment(tmp_path, NOW_MS - 5 + sequence, DEAD, sequence, access().line())
    left.put(access().line())
    recovered(tmp_path)
    [last] = [each for each in list_directory(tmp_path).segments if each.created_ms == NOW_MS]
    assert (last.identity, last.closed) == ((DEAD, 4), True)


def test_first_segment_of_an_owner_is_number_one(left: PendingLines, tmp_path: Path) -> None:
    segment(tmp_path, NOW_MS - 5, EARLIER, 9, access().line())
    left.put(access().line())
    recovered(tmp_path)
    assert (DEAD, 1) in [each.identity for each in list_directory(tmp_path).segments]


def test_only_calls_without_an_end_are_recovered(left: PendingLines, tmp_path: Path) -> None:
    """Ends are looked for in all segments of the owner, and in no others."""
    ended, running, elsewhere = begun(), begun(), begun()
    for record in (ended, running, elsewhere):
        PendingIntent(left, record, SETTLEMENT)
    segment(tmp_path, NOW_MS - 9, EARLIER, 1, end_of(elsewhere))
    torn = end_of(running)[:40]
    segment(tmp_path, NOW_MS - 8, DEAD, 1, access().line(), end_of(ended), usage().line(), torn)
    segment(tmp_path, NOW_MS - 7, LATER, 1, end_of(elsewhere))
    found = recovered(tmp_path)
    assert [record.event_id for record in found.calls] == [running.event_id, elsewhere.event_id]
    assert (found.ended, found.uncharged, found.unreadable) == (1, 0, 0)
    assert len((tmp_path / f"{DEAD}{CHARGES}").read_bytes().splitlines()) == 2


def test_record_of_an_earlier_recovery_does_not_end_a_call(left: PendingLines, tmp_path: Path) -> None:
    """A recovery that was cut off wrote it: its charge may be missing."""
    record = begun()
    PendingIntent(left, record, SETTLEMENT)
    segment(tmp_path, NOW_MS - 8, DEAD, 1, record.line())
    found = recovered(tmp_path)
    assert (len(found.calls), found.ended) == (1, 0)


def test_segment_that_goes_meanwhile_hides_no_other(
    left: PendingLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = begun()
    PendingIntent(left, record, SETTLEMENT)
    shipped = segment(tmp_path, NOW_MS - 9, DEAD, 1, access().line())
    segment(tmp_path, NOW_MS - 8, DEAD, 2, end_of(record))

    def list_and_ship(directory: Path) -> Listing:
        listing = list_directory(directory)
        shipped.unlink()
        return listing

    monkeypatch.setattr(recovery, "list_directory", list_and_ship)
    assert recovered(tmp_path).ended == 1


@pytest.mark.parametrize(
    "line", [b'{"intent":{"event_id":"x"}}\n', b'{"intent":null}\n', b'{"a":\n', b"[1]\n", b'["intent"]\n', b"{}\n"]
)
def test_unreadable_line_is_counted(left: PendingLines, tmp_path: Path, line: bytes) -> None:
    left.put(line)
    left.put(line)
    PendingIntent(left, begun(), ())
    found = recovered(tmp_path)
    assert (found.unreadable, found.counts, len(found.calls)) == (2, 0, 1)


def test_count_of_the_first_version_is_recovered(left: PendingLines, tmp_path: Path) -> None:
    """Its lines are objects, as intents are."""
    event = access(key_id=None, count=7)
    left.put(line_of_version_1(event))
    assert recovered(tmp_path).counts == 1
    [found] = list_directory(tmp_path).segments
    assert decode(found.path.read_bytes()) == event


def test_files_are_whole_private_and_closed(left: PendingLines, tmp_path: Path) -> None:
    """Also where a recovery that was cut off left a longer part of one."""
    PendingIntent(left, begun(), SETTLEMENT)
    path = segment_path(tmp_path, NOW_MS, DEAD, 1).with_suffix(".seg")
    for each in (path, tmp_path / f"{DEAD}{CHARGES}"):
        cut_off = each.parent / f"{each.name}.tmp"
        cut_off.write_bytes(b"x" * 10_000)
        cut_off.chmod(0o600)
    before = open_files()
    recovered(tmp_path)
    assert open_files() == before
    assert len(path.read_bytes().splitlines()) == 1
    assert b"x" * 100 not in (tmp_path / f"{DEAD}{CHARGES}").read_bytes()


def test_files_are_for_their_owner_alone(left: PendingLines, tmp_path: Path) -> None:
    PendingIntent(left, begun(), SETTLEMENT)
    recovered(tmp_path)
    made = [path for path in tmp_path.iterdir() if path.name.endswith((".seg", CHARGES))]
    assert [stat.S_IMODE(path.stat().st_mode) for path in made] == [0o600, 0o600]


def test_calls_without_a_charge_leave_no_charges(left: PendingLines, tmp_path: Path) -> None:
    PendingIntent(left, begun(), ())
    recovered(tmp_path)
    assert not (tmp_path / f"{DEAD}{CHARGES}").exists()


def test_nothing_pending_leaves_no_segment(left: PendingLines, tmp_path: Path) -> None:
    slot = left.put(access().line())
    assert slot is not None
    left.clear(slot)
    assert recovered(tmp_path) == Recovered(DEAD, [], 0, 0, 0, 0)
    assert list(tmp_path.iterdir()) == []
