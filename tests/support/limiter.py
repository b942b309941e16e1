"""What tests of the limiter share: charges, and a clock of the test's own. Quick to import: processes do."""

import itertools
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from platform_app.rate_limit import scripts
from platform_app.rate_limit.calendar import Calendar
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.rate_limit.rules import Charge

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
CLOCK_CALL = "redis.call('TIME')"
OUR_CLOCK = "{ARGV[#ARGV - 1], ARGV[#ARGV]}"

_numbers = itertools.count(1)


def counter_name(tag: str = "limiter") -> str:
    """A counter that nobody used before."""
    return f"test:{{{tag}}}:{next(_numbers)}"


def charge(counter: str = "", *, limit: int = 10, window: int = 60, cost: int = 1) -> Charge:
    """A charge of requests; without a name in a counter of its own."""
    return Charge(Rule("r", "key", "requests", limit, window_seconds=window), counter or counter_name(), cost)


def tokens(counter: str = "", *, limit: int = 1000, window: int = 60, cost: int = 100) -> Charge:
    """A charge of tokens."""
    rule = Rule("t", "key", "tokens", limit, Kind.RESERVED_WINDOW, window_seconds=window)
    return Charge(rule, counter or counter_name(), cost)


def cost(counter: str = "", *, limit: int = 1000, zone: str = "UTC", cost: int = 100) -> Charge:
    """A charge of a daily budget, in millionths of a dollar."""
    rule = Rule("c", "key", "cost_usd", limit, Kind.RESERVED_CALENDAR, calendar=Calendar("day", zone))
    return Charge(rule, counter or counter_name(), cost)


def lease(counter: str = "", *, limit: int = 10) -> Charge:
    """One of so many concurrent requests."""
    return Charge(Rule("l", "key", "concurrent", limit, Kind.LEASE), counter or counter_name())


class TimedScripts:
    """Runs the same scripts with the test's clock (in microseconds) in place of the server's."""

    def __init__(self, redis: "Redis") -> None:
        self._redis = redis
        self._patched = {script.sha: script.text.replace(CLOCK_CALL, OUR_CLOCK) for script in scripts.ALL}
        self.now = START

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    async def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int) -> Any:
        return await self._redis.eval(self._patched[sha], numkeys, *keys_and_args, *divmod(self.now, SECOND))

    async def eval(self, script: str, numkeys: int, *keys_and_args: str | int) -> Any:
        raise AssertionError("every script is known")


def cheaper(each: Charge, units: int) -> Charge:
    """The same rule and counter with another cost."""
    return Charge(each.rule, each.counter, units)


async def delete(redis: "Redis", charges: Sequence[Charge]) -> None:
    """Forget their counters."""
    await redis.delete(*(each.counter for each in charges))
