"""Budgets outlive Redis: a calendar counter that begins its life is told what the ledger knows was used before.

A counter begins its life when Redis was restarted without its data, when it was deleted, or with the first request that
it counts. The script says so before it charges anything, so a request whose counters live costs nothing more. Then one
task for each counter asks the ledger and tells Redis. Requests wait for it. Where it takes too long, or the ledger
cannot be read, they are decided as while Redis is down (docs/adr/0025).
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
"""How long a request waits for the ledger."""
RETRY_SECONDS = 1.0
"""After a failure no request waits, and nothing is asked, for so long."""
MAX_STALE = 10_000
MAX_TOLD = 1000
"""Counters that were told a moment ago; for those on their way that were asked for before."""

_log = get_logger("rate_limit")


class HistoryUnavailable(Exception):
    """What was used before cannot be told now; the message says why."""


class BudgetHistory(Protocol):
    """What was used according to the ledger."""

    async def used(self, rule: Rule, usage: LimitedRequest, since_microseconds: int) -> int:
        """The rule's units that were used since then by whoever shares the counter of `usage`. Bounded in time.

        Raises:
            HistoryUnavailable: it cannot be told now.
        """
        ...


class StaleBudgets:
    """Calendar counters that lack what was decided without Redis: they are told anew with their next request."""

    def __init__(self) -> None:
        self._counters: set[str] = set()

    def __contains__(self, counter: str) -> bool:
        return counter in self._counters

    def add(self, counter: str) -> None:
        """This process has counted something of it by itself."""
        if len(self._counters) < MAX_STALE:
            self._counters.add(counter)

    def discard(self, counter: str) -> None:
        """It was told."""
        self._counters.discard(counter)


class Seeder:
    """Tells counters what was used before them."""

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
        self._told: OrderedDict[str, float] = OrderedDict()
        self._failed_at: float | None = None

    def asks(self, counter: str) -> int:
        """What `acquire` does about a counter: asks if it begins its life (1), or in any case (2)."""
        return 2 if counter in self.stale else 1

    async def seed(
        self, charges: Sequence[Charge], asked: Sequence[int], head: Sequence[str | int], started: float
    ) -> None:
        """Tell the counters that a script has asked for.

        Args:
            charges: those that the script was called with.
            asked: for each counter its number, its units and the start of its period, as the script returned them.
            head: the first arguments of every script.
            started: when the script was called, on time.perf_counter; what was told since needs no second question.

        Raises:
            CountersUnknown: it takes too long, or the ledger cannot be read.
        """
        if self._failed_at is not None and self._clock() - self._failed_at < RETRY_SECONDS:
            raise _unknown("the ledger could not be read a moment ago")
        tasks = []
        for at in range(0, len(asked), 3):
            charge = charges[asked[at] - 1]
            if self._told.get(charge.counter, -math.inf) >= started and charge.counter not in self.stale:
                continue
            task = self._tasks.get(charge.counter)
            if task is None:
                work = self._tell(charge, asked[at + 1], asked[at + 2], head)
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
        """End what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, charge: Charge, before: int, start: int, head: Sequence[str | int]) -> None:
        rule, counter = charge.rule, charge.counter
        anew = counter in self.stale
        used = 0 if charge.usage is None else await self._history.used(rule, charge.usage, start)
        self.stale.discard(counter)
        try:
            numbers = [start, used, before, int(anew), *rule.script_time()]
            told = await self._scripts.run(SEED, [counter], [*head, *numbers])
        except BaseException:
            if anew:
                self.stale.add(counter)
            raise
        self._told[counter] = time.perf_counter()
        self._told.move_to_end(counter)
        if len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)
        if told:  # else another process was first
            metrics.BUDGET_SEEDS.labels("told").inc()
        if told and used:
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
    return CountersUnknown(f"what was spent of a budget is not known right now: {why}")
