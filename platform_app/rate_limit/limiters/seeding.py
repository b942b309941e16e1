"""Seed new calendar counters from the ledger, so that budgets survive the loss of Redis's data.

A counter is new with the first request that it counts, after it was deleted, and after Redis was restarted without its
data. ACQUIRE returns new counters before it charges anything, so requests with seeded counters need no extra call. Then
one task per counter reads the ledger and runs SEED, and requests wait for it. If that takes too long, or the ledger
cannot be read, requests are decided as while Redis is unavailable (docs/adr/0025).
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from redis.exceptions import RedisError

from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.limiter import CountersUnknown
from platform_app.rate_limit.limiters.scripts import SEED
from platform_app.rate_limit.matching import Charge, LimitedRequest
from platform_app.rate_limit.rule import Rule
from platform_app.redis.scripts import ScriptClient

WAIT_SECONDS = 1.0
"""Longest time that a request waits for the ledger."""
RETRY_SECONDS = 1.0
"""After a failure, the time without reads of the ledger and without waiting requests."""
MAX_STALE = 10_000
MAX_RECENT = 1000
"""Most recently seeded counters that are remembered, for calls that were sent before the seeding."""

_log = get_logger("rate_limit")


class HistoryUnavailable(Exception):
    """The ledger cannot be read now; the message says why."""


class BudgetHistory(Protocol):
    """Reads used units from the ledger."""

    async def used(self, rule: Rule, usage: LimitedRequest, since_microseconds: int) -> int:
        """Return the rule's units that were used since then by all requests that share the counter of `usage`. Returns
        in bounded time.

        Raises:
            HistoryUnavailable: the ledger cannot be read now.
        """
        ...


class StaleBudgets:
    """Calendar counters that lack units which were charged while Redis was unavailable. Their next request seeds them
    again."""

    def __init__(self) -> None:
        self._counters: set[str] = set()

    def __contains__(self, counter: str) -> bool:
        return counter in self._counters

    def add(self, counter: str) -> None:
        """Note that this process has charged the counter locally."""
        if len(self._counters) < MAX_STALE:
            self._counters.add(counter)

    def discard(self, counter: str) -> None:
        """Note that the counter was seeded."""
        self._counters.discard(counter)


class Seeder:
    """Sets counters to the units that were used before they existed."""

    def __init__(
        self,
        scripts: ScriptClient,
        history: BudgetHistory,
        stale: StaleBudgets | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scripts = scripts
        self._history = history
        self.stale = stale or StaleBudgets()
        self._clock = clock
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._recent: OrderedDict[str, float] = OrderedDict()
        self._failed_at: float | None = None

    def mode(self, counter: str) -> int:
        """Return what ACQUIRE does with a counter: return it as to be seeded if it is new (1), or in any case (2)."""
        return 2 if counter in self.stale else 1

    async def seed(
        self, charges: Sequence[Charge], unseeded: Sequence[int], head: Sequence[str | int], started: float
    ) -> None:
        """Seed the counters that a script returned.

        Args:
            charges: the charges of the script's call.
            unseeded: for each counter its index, its units and the start of its period, as the script returned them.
            head: the arguments that all scripts share.
            started: time of the call, on time.perf_counter; counters that were seeded since are not seeded again.

        Raises:
            CountersUnknown: seeding takes too long, or the ledger cannot be read.
        """
        if self._failed_at is not None and self._clock() - self._failed_at < RETRY_SECONDS:
            raise _unknown("the ledger could not be read a moment ago")
        tasks = []
        for at in range(0, len(unseeded), 3):
            charge = charges[unseeded[at] - 1]
            if self._recent.get(charge.counter, -math.inf) >= started and charge.counter not in self.stale:
                continue
            task = self._tasks.get(charge.counter)
            if task is None:
                work = self._seed_counter(charge, unseeded[at + 1], unseeded[at + 2], head)
                task = self._tasks[charge.counter] = asyncio.create_task(work, name="budget-seed")
                task.add_done_callback(partial(self._end, charge.counter))
            tasks.append(task)
        if not tasks:
            return
        done, waiting = await asyncio.wait(tasks, timeout=WAIT_SECONDS)
        if waiting:
            metrics.BUDGET_SEEDS.labels("late").inc()
            raise _unknown("the ledger takes too long")
        if any(task.cancelled() or task.exception() is not None for task in done):
            raise _unknown("the ledger cannot be read")

    async def aclose(self) -> None:
        """Cancel all running reads."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _seed_counter(self, charge: Charge, before: int, start: int, head: Sequence[str | int]) -> None:
        rule, counter = charge.rule, charge.counter
        again = counter in self.stale
        used = 0 if charge.usage is None else await self._history.used(rule, charge.usage, start)
        self.stale.discard(counter)
        try:
            numbers = [start, used, before, int(again), *rule.script_time()]
            seeded = await self._scripts.run(SEED, [counter], [*head, *numbers])
        except BaseException:
            if again:
                self.stale.add(counter)
            raise
        self._recent[counter] = time.perf_counter()
        self._recent.move_to_end(counter)
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        if seeded:  # otherwise another process was first
            metrics.BUDGET_SEEDS.labels("told").inc()
        if seeded and used:
            _log.info("budget_seeded", rule=rule.name, counter=counter, used=rule.shown(used))

    def _end(self, counter: str, task: asyncio.Task[None]) -> None:
        self._tasks.pop(counter, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._failed_at = None
            return
        metrics.BUDGET_SEEDS.labels("failed").inc()
        first = self._failed_at is None
        self._failed_at = self._clock()
        if not isinstance(error, HistoryUnavailable | RedisError | OSError | TimeoutError):
            _log.error("budget_seed_bug", exc_info=error)
        elif first:
            _log.warning("budget_seed_failed", counter=counter, why=str(error)[:200] or type(error).__name__)


def _unknown(why: str) -> CountersUnknown:
    return CountersUnknown(f"a budget's use is unknown right now: {why}")
