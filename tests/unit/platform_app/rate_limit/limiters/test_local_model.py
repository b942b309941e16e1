"""The limiter of last resort against a model that remembers every unit."""

from hypothesis import given
from hypothesis import strategies as st

from platform_app.rate_limit.limiters.local import BUCKETS, LocalLimiter
from platform_app.rate_limit.matching import Charge
from tests.support.fakes.core import FakeClock
from tests.support.limits.limiter import charge

EARLY = 1 / BUCKETS
"""The part of a window by which a unit may count too long."""


class Log:
    """Every unit that was ever let through, by counter."""

    def __init__(self) -> None:
        self._taken: dict[str, list[tuple[float, int]]] = {}

    def within(self, counter: str, seconds: float, now: float) -> int:
        """The units of the last `seconds`, both ends included."""
        return sum(cost for at, cost in self._taken.get(counter, []) if at >= now - seconds)

    def fits(self, charges: list[Charge], share: int, stretch: float, now: float) -> bool:
        return all(
            self.within(each.counter, (each.rule.window_seconds or 0) * stretch, now) + each.units
            <= max(1, each.rule.limit // share)
            for each in charges
        )

    def take(self, charges: list[Charge], now: float) -> None:
        for each in charges:
            self._taken.setdefault(each.counter, []).append((now, each.units))


@st.composite
def requests(draw: st.DrawFn) -> list[tuple[float, list[Charge]]]:
    """A sequence of (seconds since the one before, charges of several rules)."""
    rules = draw(st.lists(st.tuples(st.integers(1, 12), st.sampled_from([1, 7, 60])), min_size=1, max_size=3))
    steps = draw(
        st.lists(
            st.tuples(
                st.one_of(
                    st.just(0.0),
                    st.floats(0, 0.5),
                    st.integers(1, 70).map(lambda buckets: buckets * 60 / BUCKETS),
                    st.floats(0, 70),
                ),
                st.lists(st.tuples(st.integers(0, len(rules) - 1), st.integers(1, 4)), min_size=1, max_size=3),
            ),
            max_size=60,
        )
    )
    found = []
    for wait, picks in steps:
        by_rule = dict(picks)  # no rule twice in a request
        charges = [
            charge(f"c{index}", limit=rules[index][0], window=rules[index][1], units=cost)
            for index, cost in by_rule.items()
        ]
        found.append((wait, charges))
    return found


@given(requests(), st.integers(1, 3), st.floats(0, 1e6))
async def test_decisions_are_exact_within_a_bucket(
    steps: list[tuple[float, list[Charge]]], processes: int, start: float
) -> None:
    clock = FakeClock(start)
    limiter, log = LocalLimiter(processes, clock), Log()
    for wait, charges in steps:
        clock.advance(wait)
        decision = await limiter.acquire(charges)
        if decision.allowed:
            assert log.fits(charges, processes, 1.0, clock.now), "more than the limit in a window"
            log.take(charges, clock.now)
        else:
            # With windows that are a bucket (and a rounding) longer, the model would have denied as well.
            assert not log.fits(charges, processes, 1 + EARLY + 1e-9, clock.now), "denied without need"


@given(requests())
async def test_request_fits_at_the_denials_reset(steps: list[tuple[float, list[Charge]]]) -> None:
    clock = FakeClock()
    limiter = LocalLimiter(1, clock)
    for wait, charges in steps:
        clock.advance(wait)
        decision = await limiter.acquire(charges)
        if decision.denied_by is not None:
            [denied] = [each for each in charges if each.rule == decision.denied_by.rule][:1]
            if denied.units > denied.rule.limit:
                continue  # it never will
            assert 0 < decision.denied_by.reset_seconds <= (denied.rule.window_seconds or 0) * (1 + EARLY)
            # A rule by itself, once the time is over, lets it in.
            clock.advance(decision.denied_by.reset_seconds + 1e-6)
            assert (await limiter.acquire([denied])).allowed
