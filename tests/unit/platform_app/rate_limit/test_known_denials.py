"""What the limiter denied is denied again without asking it, exactly as long as it said."""

from dataclasses import replace

import pytest

from platform_app.config.limits.rules import LimitUnit
from platform_app.rate_limit import known_denials
from platform_app.rate_limit.known_denials import LONGEST_DEGRADED_SECONDS, LONGEST_SECONDS, KnownDenials
from platform_app.rate_limit.limiter import Decision, RuleState
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule

RULE = Rule("rpm", "key", "requests", 60, window_seconds=60)
OTHER = RuleState(Rule("owner-rpm", "owner", "requests", 600, window_seconds=60), 5, 7.0)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def known(clock: Clock) -> KnownDenials:
    return KnownDenials(clock)


def denial(rule: Rule = RULE, seconds: float = 30.0, *, degraded: bool = False) -> Decision:
    state = RuleState(rule, 0, seconds)
    return Decision((OTHER, state), state, degraded=degraded)


def charges(rule: Rule = RULE, counter: str = "one") -> list[Charge]:
    return [Charge(OTHER.rule, "owner"), Charge(rule, counter)]


def test_denial_holds_until_its_reset(known: KnownDenials, clock: Clock) -> None:
    known.note(charges(), denial(seconds=30))
    clock.now += 12
    found = known.find(charges())
    assert found is not None
    assert found.denied_by is not None
    assert (found.denied_by.rule, found.denied_by.reset_seconds, found.retry_after) == (RULE, 18, 18)
    assert found.denied_by in found.states
    assert found.states[0].reset_seconds == 0
    clock.now += 18
    assert known.find(charges()) is None


def test_other_counters_and_limits_are_not_denied(known: KnownDenials) -> None:
    known.note(charges(), denial())
    assert known.find(charges(counter="two")) is None
    assert known.find(charges(replace(RULE, limit=61))) is None
    assert known.find([Charge(OTHER.rule, "owner")]) is None


def test_denial_of_long_window_is_forgotten_after_a_minute(known: KnownDenials, clock: Clock) -> None:
    known.note(charges(), denial(seconds=86_400))
    clock.now += LONGEST_SECONDS - 1
    found = known.find(charges())
    assert found is not None
    assert found.retry_after == 86_400 - LONGEST_SECONDS + 1
    clock.now += 1
    assert known.find(charges()) is None


def test_degraded_denial_is_kept_for_a_second(known: KnownDenials, clock: Clock) -> None:
    known.note(charges(), denial(degraded=True))
    assert known.find(charges()) is not None
    clock.now += LONGEST_DEGRADED_SECONDS
    assert known.find(charges()) is None


@pytest.mark.parametrize("unit", ["tokens", "cost_usd", "concurrent"])
def test_denials_that_depend_on_the_body_are_not_kept(known: KnownDenials, unit: LimitUnit) -> None:
    rule = replace(RULE, unit=unit, kind=Kind.RESERVED_WINDOW)
    known.note(charges(rule), denial(rule))
    assert known.find(charges(rule)) is None


def test_shadow_rule_denies_nothing(known: KnownDenials) -> None:
    known.note(charges(), denial())
    assert known.find(charges(replace(RULE, shadow=True))) is None


def test_denials_noted_longest_ago_are_forgotten(known: KnownDenials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_denials, "MAX_COUNTERS", 2)
    for counter in ("noted-again", "once", "noted-again", "last"):
        known.note(charges(counter=counter), denial())
    assert known.find(charges(counter="once")) is None
    assert known.find(charges(counter="noted-again")) is not None
    assert known.find(charges(counter="last")) is not None


def test_memory_is_false_while_it_holds_no_denial(known: KnownDenials, clock: Clock) -> None:
    """A request's limits are looked up before its body is read only if it is true."""
    assert not known
    known.note(charges(), denial(seconds=30))
    assert known
    clock.now += 30
    assert known.find(charges()) is None
    assert not known, "an ended denial is forgotten"


@pytest.mark.parametrize(("degraded", "longest"), [(False, 60.0), (True, 1.0)])
def test_denial_is_remembered_for_at_most(known: KnownDenials, clock: Clock, degraded: bool, longest: float) -> None:
    known.note(charges(), denial(seconds=3600, degraded=degraded))
    clock.now += longest - 0.01
    assert known.find(charges()) is not None
    clock.now += 0.01
    assert known.find(charges()) is None
