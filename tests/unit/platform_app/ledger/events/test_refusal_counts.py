"""Requests without a key: recorded one by one up to a bound, then counted."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from platform_app.ledger.events.access_decision import VARIOUS, AccessDecision
from platform_app.ledger.events.refusal_counts import ADDRESSES_AT_THEIR_BOUND, MAX_COUNTS, RefusalCount, RefusalCounts
from tests.support.ledger.events import access

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


def refusal(address: str | None = "192.0.2.1", seconds: float = 0, **fields: Any) -> AccessDecision:
    moment = NOON + timedelta(seconds=seconds)
    given: dict[str, Any] = {"status": 401, "decision": "deny", "reason": "invalid_api_key", **fields}
    return access(key_id=None, client_address=address, occurred_at=moment, **given)


class Counts:
    """The subject, with its callbacks recorded."""

    def __init__(self, per_address: int) -> None:
        self.changes = 0
        self.ended: list[RefusalCount] = []
        self.counts = RefusalCounts(per_address, self._changed, self.ended.append)
        self.take: Callable[[AccessDecision], bool] = self.counts.take

    def _changed(self, _: RefusalCount) -> None:
        self.changes += 1

    def events(self) -> list[AccessDecision]:
        return [count.event for count in self.ended]


def test_requests_beyond_the_bound_become_one_count() -> None:
    counts = Counts(3)
    events = [refusal(seconds=number / 10, duration_ms=number) for number in range(10)]
    assert [counts.take(event) for event in events] == [True] * 3 + [False] * 7
    assert counts.ended == []
    counts.counts.end_minute()
    [event] = counts.events()
    assert (event.count, event.duration_ms) == (7, (3 + 9) / 2), "their number and their mean"
    assert (event.event_id, event.request_id, event.trace_id, event.occurred_at) == (
        events[3].event_id, events[3].request_id, events[3].trace_id, events[3].occurred_at
    ), "of the first of them"  # fmt: skip
    assert (event.route, event.method, event.client_address) == ("/v1/platform/chat", "POST", "192.0.2.1")
    assert events[3].count == 1, "the request's own event is left alone"
    assert counts.changes == 7


def test_outcomes_are_counted_apart_and_routes_together() -> None:
    counts = Counts(0)
    for number in range(6):
        counts.take(refusal(route=f"/{number}", method="GET"))
        counts.take(refusal(route="/one", method="GET" if number else "POST", status=404, reason="not_found"))
    counts.counts.end_minute()
    shown = {(event.status, event.reason, event.route, event.method, event.count) for event in counts.events()}
    assert shown == {(401, "invalid_api_key", VARIOUS, "GET", 6), (404, "not_found", "/one", VARIOUS, 6)}


def test_next_minute_starts_with_its_own_bound() -> None:
    counts = Counts(1)
    assert [counts.take(refusal(seconds=second)) for second in (58, 59, 60, 61)] == [True, False, True, False]
    assert [event.count for event in counts.events()] == [1], "the first minute's count is out"
    counts.counts.end_minute(NOON + timedelta(seconds=119))
    assert len(counts.ended) == 1, "the second minute is not over"
    counts.counts.end_minute(NOON + timedelta(seconds=120))
    counts.counts.end_minute(NOON + timedelta(seconds=180))
    assert len(counts.ended) == 2


def test_ipv6_network_counts_as_one_address() -> None:
    counts = Counts(1)
    assert [counts.take(refusal(f"2001:db8::{number:x}")) for number in range(1, 5)] == [True, False, False, False]
    assert counts.take(refusal("2001:db8:0:1::1")), "another /64"
    counts.counts.end_minute()
    assert [(event.client_address, event.count) for event in counts.events()] == [("2001:db8::/64", 3)]


def test_many_addresses_are_bounded_per_process() -> None:
    """More addresses than are tracked: events, counts and memory stay bounded, and no request is forgotten."""
    counts = Counts(5)
    addresses = [f"10.{number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(3000)]
    taken = sum(counts.take(refusal(address)) for address in addresses for _ in range(2))
    assert taken == 5 * ADDRESSES_AT_THEIR_BOUND
    counts.counts.end_minute()
    assert len(counts.ended) == MAX_COUNTS + 1
    assert taken + sum(event.count for event in counts.events()) == 6000
    others = [count for count in counts.ended if count.other_addresses]
    assert [count.event.client_address for count in others] == [None]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "unix", None]),
            st.sampled_from([401, 404, 429, 499, 0]),
            st.integers(0, 180),
        ),
        max_size=120,
    ),
    st.integers(0, 5),
)
def test_sums_by_status_are_exact(requests: list[tuple[str | None, int, int]], per_address: int) -> None:
    """Also where the clock jumps back and forth between minutes."""
    counts, seen = Counts(per_address), Counter[int]()
    for address, status, second in requests:
        event = refusal(address, second, status=status)
        if counts.take(event):
            seen[status] += event.count
    counts.counts.end_minute()
    for event in counts.events():
        seen[event.status] += event.count
    assert seen == Counter(status for _, status, _ in requests)
