"""A process that uses the limiter as a worker does: `python -m tests.support.limits.limiter_process KIND URL …`.

It prints one line of JSON when it is done.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable

from redis.asyncio import Redis

from platform_app.rate_limit.limiter import Admission
from platform_app.rate_limit.limiters.redis import RedisLimiter
from platform_app.rate_limit.limiters.scripts import ALL
from platform_app.rate_limit.matching import Charge
from platform_app.redis.client import PipelinedRedis
from tests.support.limits.limiter import charge, cost, lease, tokens

LIMIT = 50
UNITS = 7
"""Of each reservation; what is left of a limit is less than another one."""
MAKERS: dict[str, Callable[[str], Charge]] = {
    "requests": lambda name: charge(name, limit=LIMIT),
    "tokens": lambda name: tokens(name, limit=LIMIT * UNITS + UNITS - 1, units=UNITS),
    "cost": lambda name: cost(name, limit=LIMIT * UNITS + UNITS - 1, units=UNITS),
    "concurrent": lambda name: lease(name, limit=LIMIT),
}
EDGE_WINDOW, EDGE_LIMIT = 1, 50
SMOOTH_WINDOW, SMOOTH_LIMIT = 5, 1000


async def race(url: str, processes: int, racers: int, rounds: int) -> dict[str, list[int]]:
    """Start with the other processes, all racers at once; how many were admitted in each round."""
    redis, pipe = Redis.from_url(url), PipelinedRedis(url, 5)
    await pipe.load_scripts(ALL, 5)
    limiter = RedisLimiter(pipe)
    admitted: dict[str, list[int]] = {kind: [] for kind in MAKERS}
    for number in range(rounds):
        for kind, make in MAKERS.items():
            each = make(f"race:{kind}:{number}")
            await redis.incr(f"ready:{kind}:{number}")
            while int(await redis.get(f"ready:{kind}:{number}") or 0) < processes:
                await asyncio.sleep(0.001)
            decisions = await asyncio.gather(*(limiter.acquire([each]) for _ in range(racers)))
            admissions: list[Admission] = [decision.admission for decision in decisions if decision.allowed]
            admitted[kind].append(len(admissions))
            await redis.incr(f"done:{kind}:{number}")
            while int(await redis.get(f"done:{kind}:{number}") or 0) < processes:
                await asyncio.sleep(0.001)
            for admission in admissions:
                admission.release()
    await limiter.aclose()
    await pipe.aclose()
    await redis.aclose()
    return admitted


async def attack(url: str, seconds: float, seed: int) -> dict[str, list[int]]:
    """Bursts around the edges of windows and buckets; the server's times of what was admitted."""
    pipe, chance = PipelinedRedis(url, 5), random.Random(seed)
    limiter, each = RedisLimiter(pipe), charge("attacked", limit=EDGE_LIMIT, window=EDGE_WINDOW)
    admitted: list[int] = []
    asked = 0
    ends = time.monotonic() + seconds
    least = EDGE_LIMIT * seconds / EDGE_WINDOW * 0.35  # a slow machine takes longer to try as often
    while time.monotonic() < ends or len(admitted) < least:
        burst = chance.choice([1, 5, EDGE_LIMIT, 2 * EDGE_LIMIT])
        decisions = await asyncio.gather(*(limiter.acquire([each]) for _ in range(burst)))
        asked += burst
        admitted += [decision.at_microseconds for decision in decisions if decision.allowed]
        now = decisions[-1].at_microseconds / 1e6
        edge = chance.choice([EDGE_WINDOW, EDGE_WINDOW / 64])
        until_edge = edge - now % edge
        denied_by = decisions[-1].denied_by
        wait = chance.choice(
            [until_edge - 0.002, until_edge + 0.0005, 0.001, denied_by.reset_seconds if denied_by else 0]
        )
        await asyncio.sleep(max(0.0, wait))
    await pipe.aclose()
    return {"admitted": admitted, "asked": [asked]}


async def flow(url: str, seconds: float) -> dict[str, list[int]]:
    """Evenly at 98 % of the limit; how many were asked, and how many were denied."""
    pipe = PipelinedRedis(url, 5)
    limiter, each = RedisLimiter(pipe), charge("smooth", limit=SMOOTH_LIMIT, window=SMOOTH_WINDOW)
    spacing = SMOOTH_WINDOW / (0.98 * SMOOTH_LIMIT)
    asked = denied = 0
    ends = time.monotonic() + seconds
    while (sent := time.monotonic()) < ends or asked <= 100 * seconds:
        denied += not (await limiter.acquire([each])).allowed
        asked += 1
        await asyncio.sleep(max(0.0, sent + spacing - time.monotonic()))
    await pipe.aclose()
    return {"asked": [asked], "denied": [denied]}


def main() -> None:
    """Run what the arguments say."""
    kind, url, *numbers = sys.argv[1:]
    if kind == "race":
        work = race(url, *map(int, numbers))
    elif kind == "attack":
        work = attack(url, float(numbers[0]), int(numbers[1]))
    else:
        work = flow(url, float(numbers[0]))
    print(json.dumps(asyncio.run(work)))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
