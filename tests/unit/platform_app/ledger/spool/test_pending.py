"""Pending lines, and what becomes of those that a dead process left."""

import os
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from platform_app.ledger.events.event import AccessDecision, UsageRecord, decode
from platform_app.ledger.events.intents import HEAD, PendingIntent
from platform_app.ledger.events.usage_record import INTERRUPTED, MAX_NAME
from platform_app.ledger.spool import pending as pending_module
from platform_app.ledger.spool import recovery
from platform_app.ledger.spool.maintenance import SpoolMaintenance
from platform_app.ledger.spool.pending import GROW_SLOTS, MAX_SLOTS, SLOT_BYTES, PendingLines, read_pending
from platform_app.ledger.spool.recovery import Recovered, recover
from platform_app.ledger.spool.segments import CHARGES, LOCK, PENDING, Orphans, list_directory
from platform_app.ledger.spool.spool import Spool
from tests.support.fakes.core import Count
from tests.support.ledger.events import access, spool_in, usage

DEAD = "4711-0123abcd"
SETTLEMENT = [{"holder": "abc", "at": 1, "counters": [["fbp:rl:{k}:c", 3, 10, 10, 60_000_000]]}]


@pytest.fixture
def left(tmp_path: Path) -> PendingLines:
    """The pending lines of a process that will not live to end them."""
    (tmp_path / f"{DEAD}{LOCK}").touch()
    return PendingLines(tmp_path / f"{DEAD}{PENDING}", HEAD)


def begun(**fields: object) -> UsageRecord:
    return usage(outcome=INTERRUPTED, estimated=True, duration_ms=0.0, **fields)


def lines_in(directory: Path) -> list[AccessDecision | UsageRecord]:
    return [decode(line) for each in list_directory(directory).segments for line in each.path.read_bytes().splitlines()]


def recovered(directory: Path) -> Recovered:
    found = recover(directory, DEAD, 1_790_000_000_000)
    assert found is not None
    return found


def test_lines_are_replaced_and_cleared_in_their_slots(left: PendingLines, tmp_path: Path) -> None:
    path = tmp_path / f"{DEAD}{PENDING}"
    assert not path.exists(), "a process without pending lines has no file"
    long, short = b'{"a":"%s"}\n' % (b"x" * 5000), b'{"a":1}\n'
    slots = [left.put(long) for _ in range(3)]
    assert slots == [1, 2, 3]
    left.replace(1, short)
    left.clear(2)
    found = read_pending(path)
    assert found is not None
    assert (list(found.lines), found.same_boot) == ([short, long], True)
    assert left.put(short) == 2, "the lowest free slot"
    assert path.stat().st_mode & 0o777 == 0o600
    for slot in (1, 2, 3):
        left.clear(slot)
    left.close()
    assert not path.exists(), "nothing is left"


def test_close_keeps_lines_that_are_not_over(left: PendingLines, tmp_path: Path) -> None:
    left.put(b"{}\n")
    left.close()
    found = read_pending(tmp_path / f"{DEAD}{PENDING}")
    assert found is not None
    assert list(found.lines) == [b"{}\n"]


def test_file_stays_as_large_as_most_lines_at_once(left: PendingLines, tmp_path: Path) -> None:
    for _ in range(100):
        slots = [left.put(begun().line()) for _ in range(GROW_SLOTS + 1)]
        for slot in slots:
            assert slot is not None
            left.clear(slot)
    assert (tmp_path / f"{DEAD}{PENDING}").stat().st_size == (1 + 2 * GROW_SLOTS) * SLOT_BYTES


def test_longest_call_fits_into_its_slot(left: PendingLines, tmp_path: Path) -> None:
    name = "\U0001f600" * MAX_NAME
    record = begun(owner=name, model=name, provider=name, upstream_model=name, route="/v1/platform/chat")
    PendingIntent(left, record, SETTLEMENT)
    assert [each.owner for each in recovered(tmp_path).calls] == [name]


def test_lines_survive_growth_and_half_a_line_is_ignored(left: PendingLines, tmp_path: Path) -> None:
    """A process may die at any time; what it wrote last is whole or not there."""
    lines = [b'{"a":%d}\n' % number for number in range(3 * GROW_SLOTS)]
    assert [left.put(line) for line in lines] == list(range(1, len(lines) + 1))
    found = read_pending(tmp_path / f"{DEAD}{PENDING}")
    assert found is not None
    assert list(found.lines) == lines
    half = (tmp_path / f"{DEAD}{PENDING}").read_bytes()
    (tmp_path / f"{DEAD}{PENDING}").write_bytes(half[:SLOT_BYTES] + b"\n" + half[SLOT_BYTES + 1 :])
    found = read_pending(tmp_path / f"{DEAD}{PENDING}")
    assert found is not None
    assert list(found.lines) == lines[1:], "a line counts from when its first byte is there"


def test_intent_of_an_earlier_version_is_recovered(left: PendingLines, tmp_path: Path) -> None:
    """It wrote the record as an object, and no names into the head."""
    record = begun()
    PendingLines(tmp_path / f"{DEAD}{PENDING}").put(
        orjson.dumps({"intent": record, "settlement": SETTLEMENT}, option=orjson.OPT_APPEND_NEWLINE)
    )
    assert recovered(tmp_path).calls == [record]


@pytest.mark.parametrize("fault", ["full disk", "no directory", "too long", "too many"])
def test_line_that_cannot_be_written_is_counted(
    left: PendingLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    failures = Count("platform_ledger_pending_failures_total")
    line = begun().line()
    monkeypatch.setattr(pending_module, "GROW_SLOTS", 1)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    match fault:
        case "full disk":
            assert left.put(line) == 1
            monkeypatch.setattr(os, "pwrite", refuse)
        case "no directory":
            left = PendingLines(tmp_path / "none" / f"{DEAD}{PENDING}")
        case "too long":
            line = b"{%s}\n" % (b"x" * SLOT_BYTES)
        case _:
            monkeypatch.setattr(pending_module, "MAX_SLOTS", 1)
            assert left.put(line) == 1
    intent_slot = left.put(line)
    assert intent_slot is None
    assert failures.grown >= 1
    monkeypatch.undo()
    if fault == "full disk":
        assert left.put(line) == 2, "and again when there is room"


def test_interrupted_call_becomes_a_record_and_a_charge(left: PendingLines, tmp_path: Path) -> None:
    over, running, free = begun(), begun(cost_microusd=81), begun()
    intents = [PendingIntent(left, record, SETTLEMENT) for record in (over, running)]
    PendingIntent(left, free, ())
    intents[0].end()
    found = recovered(tmp_path)
    assert [record.event_id for record in found.calls] == [running.event_id, free.event_id]
    assert lines_in(tmp_path) == [running, free]
    [charge] = (tmp_path / f"{DEAD}{CHARGES}").read_bytes().splitlines()
    assert orjson.loads(charge) == {"event_id": running.event_id, "settlement": SETTLEMENT}
    assert recover(tmp_path, DEAD, 1_790_000_000_000) is None, "once"


def test_updated_intent_names_the_last_provider(left: PendingLines, tmp_path: Path) -> None:
    first = begun()
    intent = PendingIntent(left, first, SETTLEMENT)
    intent.update(begun(event_id=first.event_id, occurred_at=first.occurred_at, provider="second", attempts=2), ())
    [record] = recovered(tmp_path).calls
    assert (record.event_id, record.provider, record.attempts) == (first.event_id, "second", 2)


def test_call_whose_end_is_in_the_spool_is_left_alone(tmp_path: Path) -> None:
    """The process died between writing the end and withdrawing the intent."""
    spool = spool_in(tmp_path)
    left = PendingLines(tmp_path / f"{spool.owner}{PENDING}", HEAD)
    record = begun()
    PendingIntent(left, record, SETTLEMENT)
    end = usage(event_id=record.event_id, occurred_at=record.occurred_at)
    spool.append(end.line())
    found = recover(tmp_path, spool.owner, 1_790_000_000_000)
    assert found is not None
    assert (found.calls, found.ended) == ([], 1)
    assert lines_in(tmp_path) == [end]
    assert not (tmp_path / f"{spool.owner}{CHARGES}").exists()


@pytest.mark.parametrize("step", ["charges", "segment", "removal"])
def test_recovery_that_is_cut_off_is_repeated(
    left: PendingLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Whatever step the second process dies in, the third finds one record, as often as it may come, and its charge."""
    record = begun()
    PendingIntent(left, record, SETTLEMENT)

    def die(*_: object, **__: object) -> None:
        raise OSError("died")

    whole = recovery._write_whole
    if step == "removal":
        monkeypatch.setattr(Path, "unlink", die)
    else:
        suffix = CHARGES if step == "charges" else ".seg"
        monkeypatch.setattr(
            recovery, "_write_whole", lambda path, lines: die() if path.suffix == suffix else whole(path, lines)
        )
    with pytest.raises(OSError, match="died"):
        recover(tmp_path, DEAD, 1_790_000_000_000)
    monkeypatch.undo()
    assert [each.event_id for each in recovered(tmp_path).calls] == [record.event_id]
    assert {event.event_id for event in lines_in(tmp_path)} == {record.event_id}
    assert len((tmp_path / f"{DEAD}{CHARGES}").read_bytes().splitlines()) == 1


def test_growing_count_is_recovered_as_it_stood(left: PendingLines, tmp_path: Path) -> None:
    event = access(key_id=None, count=1)
    slot = left.put(event.line())
    assert slot is not None
    event.count = 3900
    left.replace(slot, event.line())
    found = recovered(tmp_path)
    assert (found.calls, found.counts) == ([], 1)
    assert lines_in(tmp_path) == [event]


def test_machine_restart_records_calls_and_charges_none(
    left: PendingLines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may be older than the process's end: a record has an event id to be known by, and a charge has none."""
    PendingIntent(left, begun(), SETTLEMENT)
    monkeypatch.setattr(pending_module, "boot_id", lambda: "another")
    found = recovered(tmp_path)
    assert (len(found.calls), found.uncharged) == (1, 1)
    assert not (tmp_path / f"{DEAD}{CHARGES}").exists()


@pytest.mark.parametrize(
    "line", [b"{", b'{"intent":{"event_id":"x"}}\n', b'{"intent":1}\n', b'{"intent":null}\n', b'{"a":\n', b"[1]\n"]
)
def test_unreadable_lines_hold_up_nothing(left: PendingLines, tmp_path: Path, line: bytes) -> None:
    left.put(line)
    record = begun()
    PendingIntent(left, record, ())
    assert [each.event_id for each in recovered(tmp_path).calls] == [record.event_id]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    spool = spool_in(tmp_path)
    yield spool
    spool.close()


async def test_maintenance_recovers_pending_lines_and_keeps_the_lock(
    left: PendingLines, spool: Spool, tmp_path: Path
) -> None:
    record = begun(provider="p", model="m", cost_microusd=2_000_000)
    PendingIntent(left, record, SETTLEMENT)
    interrupted = Count("platform_ledger_interrupted_total")
    spent = Count("platform_usage_cost_usd_total", provider="p", model="m")
    orphans = Orphans(tmp_path, spool.owner)
    await SpoolMaintenance(spool, orphans, 0).run_once()
    assert DEAD in orphans.owners
    assert lines_in(tmp_path) == [record]
    assert (interrupted.grown, spent.grown) == (1, 2)
    for segment in list_directory(tmp_path).segments:
        segment.path.unlink()
    orphans.adopt(list_directory(tmp_path))
    assert DEAD in orphans.owners, "its charges are not sent yet"
    (tmp_path / f"{DEAD}{CHARGES}").unlink()
    orphans.adopt(list_directory(tmp_path))
    assert DEAD not in orphans.owners
    orphans.close()


async def test_recovery_that_fails_is_tried_again(
    left: PendingLines, spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    PendingIntent(left, begun(), ())
    orphans = Orphans(tmp_path, spool.owner)

    def refuse(_: str) -> None:
        raise OSError(28, "No space left on device")

    assert orphans.adopt(list_directory(tmp_path), refuse) == []
    assert DEAD not in orphans.owners, "nobody ships its segments before"
    assert orphans.adopt(list_directory(tmp_path), lambda owner: None) == [DEAD]
    orphans.close()


def test_slots_are_more_than_a_process_has_requests() -> None:
    assert MAX_SLOTS >= 10 * 2_000
