"""The flood guard: repeats of one event are counted, and nothing else is lost."""

import logging

from platform_app.observability.logging import configure_logging, get_logger, write_access_line
from platform_app.observability.logs.flood_guard import MAX_EVENTS, FloodGuard, Repeated
from tests.support.fakes.core import Count
from tests.support.fakes.log_lines import Lines


class Guarded:
    """A guard of three lines per second, by a clock that the test sets."""

    def __init__(self, per_second: int = 3) -> None:
        self.now = 0.0
        self.suppressed = 0
        self.summaries: list[tuple[Repeated, int]] = []
        self.guard = FloodGuard(
            per_second, self.count, lambda repeated, count: self.summaries.append((repeated, count)), lambda: self.now
        )

    def count(self) -> None:
        self.suppressed += 1

    def send(self, lines: int, event: str = "failed", level: str = "info") -> int:
        """Return how many of the lines are written."""
        return sum(self.guard.admits("auth", event, level) for _ in range(lines))


def test_flood_guard_writes_the_first_lines_of_each_second() -> None:
    guarded = Guarded()
    assert guarded.send(10) == 3
    guarded.now = 0.9
    assert guarded.send(10) == 0
    guarded.now = 1.0
    assert guarded.send(2) == 2


def test_flood_guard_counts_each_event_and_level_separately() -> None:
    guarded = Guarded()
    assert guarded.send(10, "failed", "info") == 3
    assert guarded.send(10, "failed", "error") == 3
    assert guarded.send(10, "other", "info") == 3


def test_flood_guard_summarises_a_second_that_has_ended() -> None:
    guarded = Guarded()
    guarded.send(10)
    guarded.guard.write_summaries()
    assert guarded.summaries == []
    guarded.now = 1.0
    guarded.guard.write_summaries()
    guarded.guard.write_summaries()
    assert guarded.summaries == [(("auth", "failed", "info"), 7)]
    assert guarded.suppressed == 7


def test_flood_guard_summarises_while_the_flood_continues() -> None:
    """The next second's lines arrive before the sink's thread looks."""
    guarded = Guarded()
    guarded.send(10)
    guarded.now = 1.0
    guarded.send(5)
    guarded.guard.write_summaries()
    assert guarded.summaries == [(("auth", "failed", "info"), 7)]


def test_flood_guard_summarises_the_current_second_on_close() -> None:
    guarded = Guarded()
    guarded.send(4)
    guarded.guard.write_summaries(closing=True)
    assert guarded.summaries == [(("auth", "failed", "info"), 1)]


def test_flood_guard_of_zero_has_no_bound() -> None:
    assert Guarded(0).send(1000) == 1000


def test_flood_guard_memory_is_bounded() -> None:
    guarded = Guarded()
    written = sum(guarded.send(1, f"event {number}") for number in range(10_000))
    assert written == MAX_EVENTS + 3
    for second in range(1, 20):  # no summary is written meanwhile
        guarded.now = float(second)
        for number in range(100):
            guarded.send(4, f"event {second} {number}")
    assert len(guarded.guard._unwritten) <= MAX_EVENTS + 1
    guarded.guard.write_summaries(closing=True)
    assert sum(count for _, count in guarded.summaries) == guarded.suppressed


def test_repeated_lines_are_summarised_in_one_line() -> None:
    sink, counted = Lines(), Count("platform_log_lines_suppressed_total")
    configure_logging("info", "json", sink, repeats_per_second=2)
    for number in range(7):
        get_logger("auth").warning("key_store_unavailable", number=number)
    assert sink.before_flush is not None
    sink.before_flush(closing=True)
    assert [line["event"] for line in sink.all] == ["key_store_unavailable"] * 2 + ["log_lines_suppressed"]
    summary = sink.last
    assert (summary["suppressed_component"], summary["suppressed_event"]) == ("auth", "key_store_unavailable")
    assert (summary["count"], summary["level"]) == (5, "warning")
    assert counted.grown == 5


def test_access_lines_are_never_suppressed() -> None:
    sink = Lines()
    configure_logging("info", "json", sink, repeats_per_second=2)
    for _ in range(100):
        write_access_line({"status": 200}, None)
    assert len(sink.raw) == 100


def test_library_lines_with_other_arguments_are_one_event() -> None:
    sink = Lines()
    configure_logging("info", "json", sink, repeats_per_second=2)
    for number in range(10):
        logging.getLogger("library").warning("could not read %d", number)
    assert [line["event"] for line in sink.all] == ["could not read 0", "could not read 1"]
