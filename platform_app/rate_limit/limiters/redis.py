"""The limiter on Redis or Valkey: one script call for all rules of a request."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from platform_app.errors import LimiterUnavailable
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.limiter import NOTHING_RESERVED, CountersUnknown, Decision, RuleState, Settlement
from platform_app.rate_limit.limiters.scripts import ACQUIRE, READ, RENEW, SETTLE
from platform_app.rate_limit.limiters.seeding import Seeder
from platform_app.rate_limit.matching import Charge, cost_used, hash_tag
from platform_app.rate_limit.reservations import RENEW_SECONDS, RESERVATION_SECONDS, Reservations
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.redis.failures import REDIS_ERRORS, redis_failure
from platform_app.redis.scripts import Script, ScriptClient

BUCKETS = 64
"""Buckets per window. A unit counts for at most 1/64 of a window too long, so a denial is at most 1.6 % early."""
MAX_SETTLING = 10_000
"""Most settlements without a response. More means that Redis does not respond."""
CLOSE_SECONDS = 1.0
"""Longest wait for running calls when the limiter is closed."""
RENEWED_AT_ONCE = 200
"""Most counters in one call, so that no call blocks the server for long."""
SEED_TRIES = 3

_WINDOW, _CALENDAR = (
    Kind.SLIDING_WINDOW,
    Kind.RESERVED_CALENDAR,
)  # looking it up in the class costs as much as the comparison
RESERVATION_MS = int(RESERVATION_SECONDS * 1000)
T = TypeVar("T")
_Part = tuple[Charge, int, int]
"""What is settled of one counter: the charge, the units whose reservation ends, and the units used."""

_log = get_logger("rate_limit")


class RedisLimiter:
    """Exact across processes: scripts are atomic and use the server's clock. The client bounds how long a call
    takes."""

    def __init__(self, scripts: ScriptClient, *, by_hash_tag: bool = False, seeder: Seeder | None = None) -> None:
        """
        Args:
            scripts: runs the scripts.
            by_hash_tag: never put counters with different hash tags in one call, as a cluster requires. Then callers of
                `acquire` and `read` must not mix tags either; see ClusterLimiter.
            seeder: sets new budget counters to what was spent before; without it they start at zero.
        """
        self._scripts = scripts
        self._seeder = seeder
        self._by_hash_tag = by_hash_tag
        self._reservations = Reservations()
        self._settling: set[asyncio.Future[Any]] = set()
        self._cancelled: set[asyncio.Future[Any]] = set()

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire. Raises CountersUnknown if a budget's new counter cannot be seeded."""
        started = time.perf_counter()
        decision = await self._acquire(charges)
        if isinstance(decision, Decision):
            return decision
        for _ in range(SEED_TRIES):
            assert self._seeder is not None  # noqa: S101 - for mypy: without a seeder no script returns counters to seed
            await self._seeder.seed(charges, decision, self._head(self._reservations.current_holder), started)
            started = time.perf_counter()
            decision = await self._acquire(charges)
            if isinstance(decision, Decision):
                return decision
        raise CountersUnknown(f"a budget's counter was lost {SEED_TRIES} times in a row")

    async def _acquire(self, charges: Sequence[Charge]) -> Decision | Sequence[int]:
        """Return the decision, or the counters that must be seeded first."""
        seeder = self._seeder
        keys = [charge.counter for charge in charges]
        arguments = self._head(self._reservations.holder_id())
        reserving = False
        for charge in charges:
            rule = charge.rule
            if rule.kind is _WINDOW:
                arguments += (rule.script_kind, rule.limit, charge.units, rule.window_microseconds)
            else:
                reserving = True
                known = self._reservations.known(charge.counter)
                if rule.kind is _CALENDAR:
                    seeding = 0 if seeder is None else seeder.mode(charge.counter)
                    arguments += (rule.script_kind, rule.limit, charge.units, known, seeding, *rule.script_time())
                else:
                    arguments += (rule.script_kind, rule.limit, charge.units, known, *rule.script_time())
        started = time.perf_counter()
        if reserving:
            reply = await self._reserve(charges, keys, arguments)
        else:
            reply = await self._call(ACQUIRE, keys, arguments)
        metrics.LIMITER_SECONDS.observe(time.perf_counter() - started)
        return reply[2:] if reply[0] < 0 else self._decision(charges, reply, reserving)

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read."""
        started = time.perf_counter()
        reply = await self._read(charges)
        unseeded = reply[2 + 2 * len(charges) :]
        if self._seeder is not None and unseeded:
            with contextlib.suppress(CountersUnknown):  # then the counters are returned as they are
                await self._seeder.seed(charges, unseeded, self._head(self._reservations.current_holder), started)
                reply = await self._read(charges)
        return tuple(_state(charge.rule, reply, index) for index, charge in enumerate(charges))

    async def _read(self, charges: Sequence[Charge]) -> list[int]:
        arguments = self._head(self._reservations.current_holder)
        for charge in charges:
            arguments += (charge.rule.script_kind, charge.rule.limit, *charge.rule.script_time())
        return await self._call(READ, [charge.counter for charge in charges], arguments)

    def undo(self, charges: Sequence[Charge], decision: Decision) -> None:
        """Undo a decision's charges without waiting for it."""
        decision.admission.release()
        parts = [
            (charge, 0, -charge.units)
            for charge, state in zip(charges, decision.states, strict=True)
            if charge.rule.kind is Kind.SLIDING_WINDOW and not state.shadow_denied
        ]
        if parts:
            self._settle(parts, decision.at_microseconds)

    async def renew_reservations(self) -> None:
        """Renew this process's reservations in intervals; a task for the process's whole life."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew_now()

    async def renew_now(self) -> bool:
        """Renew the reservations once. Return whether all of them were renewed."""
        holder, previous = self._reservations.holder_id(), tuple(self._reservations.previous_holders)
        for counters in self._by_call(self._reservations.counters(), lambda counter: counter):
            for first in range(0, len(counters), RENEWED_AT_ONCE):
                some = counters[first : first + RENEWED_AT_ONCE]
                known = [self._reservations.known(counter) for counter in some]
                try:
                    await self._scripts.run(RENEW, some, [*self._head(holder), len(previous), *previous, *known])
                except REDIS_ERRORS:
                    metrics.LIMITER_SETTLEMENTS.labels("renewal_failed").inc()
                    return False
        for name in previous:
            if name in self._reservations.previous_holders:
                self._reservations.previous_holders.remove(name)
        return True

    def settle(
        self,
        charges: Sequence[Charge],
        at_microseconds: int,
        tokens: int | None,
        cost: int | None,
        assumed_costs: Mapping[str, int] | None = None,
    ) -> None:
        """End the reservations and count the used units, without waiting for it; see Admission.settle."""
        parts = []
        for charge in charges:
            self._reservations.remove(charge.counter, charge.units)
            match charge.rule.unit:
                case "tokens":
                    used = charge.units if tokens is None else tokens
                case "cost_usd":
                    used = cost_used(charge, cost, assumed_costs)
                case _:
                    used = 0
            parts.append((charge, charge.units, max(0, used)))
        self._settle(parts, at_microseconds)

    def settlement_of(self, charges: Sequence[Charge], at_microseconds: int) -> Settlement:
        """Return what `settle` would send with unknown use, for `OrphanSettlements`."""
        counters = [
            (
                charge.counter,
                charge.rule.script_kind,
                charge.units,
                0 if charge.rule.kind is Kind.CONCURRENCY else charge.units,
                *charge.rule.script_time(),
            )
            for charge in charges
        ]
        return ({"holder": self._reservations.current_holder, "at": at_microseconds, "counters": counters},)

    async def aclose(self) -> None:
        """Stop the seeder, and wait at most `CLOSE_SECONDS` for running calls, so that none opens a connection after
        the client was closed. The client is closed by the code that opened it."""
        if self._seeder is not None:
            await self._seeder.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                # After a call whose request was cancelled, a settlement returns the units that it reserved.
                while running := self._cancelled | self._settling:
                    await asyncio.wait(running)

    @staticmethod
    def _head(holder: str) -> list[str | int]:
        """Return the arguments that all scripts share."""
        return [BUCKETS, holder, RESERVATION_MS]

    def _by_call(self, things: Iterable[T], counter: Callable[[T], str]) -> Iterable[list[T]]:
        """Group things by the script call that may contain them: on a cluster, one hash tag each."""
        if not self._by_hash_tag:
            return (list(things),)
        groups: dict[str, list[T]] = {}
        for thing in things:
            groups.setdefault(hash_tag(counter(thing)), []).append(thing)
        return groups.values()

    async def _reserve(self, charges: Sequence[Charge], keys: list[str], arguments: list[str | int]) -> list[int]:
        """Run ACQUIRE for rules that reserve. Its result is handled even if the request is cancelled meanwhile: the
        call may have reserved units."""
        call = self._scripts.run(ACQUIRE, keys, arguments)
        try:
            return await asyncio.shield(call)
        except REDIS_ERRORS as error:
            self._reservations.mark_uncertain()
            raise _unavailable() from error
        except asyncio.CancelledError:
            self._cancelled.add(call)
            call.add_done_callback(lambda done: self._return_units(charges, done))
            raise

    def _return_units(self, charges: Sequence[Charge], call: asyncio.Future[list[int]]) -> None:
        self._cancelled.discard(call)
        if call.cancelled() or call.exception() is not None:
            self._reservations.mark_uncertain()
        elif call.result()[0] == 0:  # admitted
            self._decision(charges, call.result(), True).admission.release()

    async def _call(self, script: Script, keys: list[str], arguments: list[str | int]) -> list[int]:
        try:
            reply: list[int] = await self._scripts.run(script, keys, arguments)
        except REDIS_ERRORS as error:
            raise _unavailable() from error
        return reply

    def _decision(self, charges: Sequence[Charge], reply: list[int], reserving: bool) -> Decision:
        states = tuple([_state(charge.rule, reply, index) for index, charge in enumerate(charges)])
        if reply[0]:
            return Decision(states, states[reply[0] - 1], at_microseconds=reply[1])
        if not reserving:
            return Decision(states, at_microseconds=reply[1])
        reserved = [
            charge
            for charge, state in zip(charges, states, strict=True)
            if charge.rule.kind is not Kind.SLIDING_WINDOW and not state.shadow_denied
        ]
        for charge in reserved:
            self._reservations.add(charge.counter, charge.units)
        admission = RedisAdmission(self, reserved, reply[1]) if reserved else NOTHING_RESERVED
        return Decision(states, None, admission, reply[1])

    def _settle(self, parts: Sequence[_Part], at_microseconds: int) -> None:
        """Send a settlement without waiting for it. This process's next request follows it on the same connection."""
        if len(self._settling) >= MAX_SETTLING:
            metrics.LIMITER_SETTLEMENTS.labels("dropped").inc()
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # the event loop has ended; the reservations expire
            return
        for part_of_call in self._by_call(parts, lambda part: part[0].counter):
            call = self._scripts.run(SETTLE, *self._settlement(part_of_call, at_microseconds))
            self._settling.add(call)
            call.add_done_callback(self._settled)

    def _settled(self, call: asyncio.Future[Any]) -> None:
        self._settling.discard(call)
        # A cancelled call, such as one of a loop that ends, may have reached Redis or not.
        error = asyncio.CancelledError() if call.cancelled() else call.exception()
        if error is None:
            metrics.LIMITER_SETTLEMENTS.labels("sent").inc()
            return
        self._reservations.mark_uncertain()
        metrics.LIMITER_SETTLEMENTS.labels("failed").inc()
        _log.debug("settlement_failed", error=str(redis_failure(error)))

    def _settlement(self, parts: Sequence[_Part], at_microseconds: int) -> tuple[list[str], list[str | int]]:
        """Return keys and arguments of SETTLE."""
        arguments = [*self._head(self._reservations.current_holder), at_microseconds]
        for charge, released, used in parts:
            arguments += (charge.rule.script_kind, released, used, *charge.rule.script_time())
        return [charge.counter for charge, _, _ in parts], arguments


class RedisAdmission:
    """See Admission. An admission that is dropped unsettled, as after a bug, is settled with its reserved units."""

    __slots__ = ("_at", "_charges", "_limiter")

    def __init__(self, limiter: RedisLimiter, charges: Sequence[Charge], at_microseconds: int) -> None:
        self._limiter: RedisLimiter | None = limiter
        self._charges = charges
        self._at = at_microseconds

    def settle(
        self, tokens: int | None, cost_microusd: int | None, assumed_costs: Mapping[str, int] | None = None
    ) -> None:
        """See Admission.settle."""
        limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.settle(self._charges, self._at, tokens, cost_microusd, assumed_costs)

    def release(self) -> None:
        """See Admission.release."""
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        """See Admission.settlement. Reserved tokens and costs count as used."""
        if self._limiter is None or all(charge.rule.kind is Kind.CONCURRENCY for charge in self._charges):
            return ()
        return self._limiter.settlement_of(self._charges, self._at)

    def __del__(self) -> None:
        self.settle(None, None)


def _unavailable() -> LimiterUnavailable:
    return LimiterUnavailable("The rate limiter is unavailable right now. Try again shortly.", retry_after=1)


def _state(rule: Rule, reply: Any, index: int) -> RuleState:
    remaining: int = reply[2 * index + 2]
    if remaining < 0:
        return RuleState(rule, -1 - remaining, reply[2 * index + 3] / 1e6, shadow_denied=True)
    return RuleState(rule, remaining, reply[2 * index + 3] / 1e6)
