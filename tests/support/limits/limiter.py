"""What tests of the limiter share: charges, and a clock of the test's own. Quick to import: processes do."""

import asyncio
import itertools
import re
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from platform_app.rate_limit.calendar import Calendar
from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters import scripts
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.matching import Charge
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.redis.client import PipelinedRedis
from platform_app.redis.scripts import Script, make_script

SECOND = 1_000_000
START = 1_790_000_000 * SECOND
CLOCK_CALL = "redis.call('TIME')"
OUR_CLOCK = "{ARGV[#ARGV - 2], ARGV[#ARGV - 1]}"

_numbers = itertools.count(1)


def counter_name(tag: str = "limiter") -> str:
    """Return the name of an unused counter."""
    return f"test:{{{tag}}}:{next(_numbers)}"


def charge(counter: str = "", *, limit: int = 10, window: int = 60, units: int = 1) -> Charge:
    """Return a charge of requests; without a name, in an unused counter."""
    return Charge(Rule("r", "key", "requests", limit, window_seconds=window), counter or counter_name(), units)


def tokens(counter: str = "", *, limit: int = 1000, window: int = 60, units: int = 100) -> Charge:
    """A charge of tokens."""
    rule = Rule("t", "key", "tokens", limit, Kind.RESERVED_WINDOW, window_seconds=window)
    return Charge(rule, counter or counter_name(), units)


def cost(counter: str = "", *, limit: int = 1000, zone: str = "UTC", units: int = 100) -> Charge:
    """A charge of a daily budget, in millionths of a dollar."""
    rule = Rule("c", "key", "cost_usd", limit, Kind.RESERVED_CALENDAR, calendar=Calendar("day", zone))
    return Charge(rule, counter or counter_name(), units)


def lease(counter: str = "", *, limit: int = 10) -> Charge:
    """One of so many concurrent requests."""
    return Charge(Rule("l", "key", "concurrent", limit, Kind.CONCURRENCY), counter or counter_name())


NOW_MS = "local now_ms = floor(now / 1000)\n"
# The last argument names a sorted set with the end of every key's lifetime, in milliseconds of the test's clock.
EXPIRE_KEYS = """local lifetimes = ARGV[#ARGV]
for _, ended in ipairs(call('ZRANGEBYSCORE', lifetimes, '-inf', now_ms)) do
  call('DEL', ended)
end
for _, member in ipairs(call('ZRANGE', lifetimes, 0, -1)) do
  if call('EXISTS', member) == 0 then
    call('ZREM', lifetimes, member)
  end
end
"""


def on_test_clock(script: str) -> str:
    """A script whose clock, and whose keys' lifetimes with it, are the test's: nothing in it depends on real time."""
    text = script.replace(CLOCK_CALL, OUR_CLOCK).replace(NOW_MS, NOW_MS + EXPIRE_KEYS)
    text = re.sub(r"call\('PEXPIRE', ([\w.]+), (\w+)\)", r"call('ZADD', lifetimes, now_ms + \2, \1)", text)
    return re.sub(r"call\('PTTL', (\w+)\)", r"(tonumber(call('ZSCORE', lifetimes, \1) or now_ms - 1) - now_ms)", text)


class TimedScripts:
    """A ScriptClient whose scripts use the test's clock (in microseconds) in place of the server's."""

    def __init__(self, client: PipelinedRedis) -> None:
        self._client = client
        self._patched = {script: make_script(on_test_clock(script.text)) for script in scripts.ALL}
        self._lifetimes = f"test:lifetimes:{next(_numbers)}"
        self.now = START

    def advance(self, seconds: float) -> None:
        self.now += round(seconds * SECOND)

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        clock = divmod(self.now, SECOND)
        return self._client.run(self._patched[script], keys, [*arguments, *clock, self._lifetimes])

    async def lifetime_ms(self, key: str) -> int | None:
        """The milliseconds until the server forgets a key; None for a key that does not exist, or never ends."""
        ends = await self._client.execute_command("ZSCORE", self._lifetimes, key)
        if ends is None or not await self._client.execute_command("EXISTS", key):
            return None
        return int(ends) - self.now // 1000


async def settled(limiter: RedisLimiter) -> None:
    """Wait until no call of the limiter is on its way."""
    while on_their_way := limiter._cancelled | limiter._settling:
        await asyncio.wait(on_their_way)


async def remaining(limiter: RedisLimiter, *charges: Charge) -> list[int]:
    """What remains of each rule."""
    return [state.remaining for state in await limiter.read(charges)]


async def admit(limiter: RedisLimiter, *charges: Charge) -> Admission | None:
    """The admission of a request with these charges; None if it is denied."""
    decision = await limiter.acquire(charges)
    return decision.admission if decision.allowed else None


def cheaper(each: Charge, units: int) -> Charge:
    """The same rule and counter with another cost."""
    return Charge(each.rule, each.counter, units)


async def delete(redis: "Redis", charges: Sequence[Charge]) -> None:
    """Forget their counters."""
    await redis.delete(*(each.counter for each in charges))
