"""The limiter on Redis or Valkey: one script call for all rules of a request."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from platform_app.errors import LimiterUnavailable
from platform_app.observability import metrics
from platform_app.observability.logging import get_logger
from platform_app.rate_limit.limiter import NOTHING_RESERVED, CountersUnknown, Decision, RuleState, Settlement
from platform_app.rate_limit.limiters.scripts import ACQUIRE, READ, RENEW, SETTLE
from platform_app.rate_limit.limiters.seeding import Seeder
from platform_app.rate_limit.matching import Charge, hash_tag
from platform_app.rate_limit.reservations import RENEW_SECONDS, RESERVATION_SECONDS, Reservations
from platform_app.rate_limit.rule import Kind, Rule
from platform_app.redis.scripts import Script, ScriptClient

BUCKETS = 64
"""Buckets per window: a unit counts for at most 1/64 of a window too long, so 1.6 % early at worst."""
MAX_SETTLING = 10_000
"""Settlements on their way. More would mean that nobody takes them."""
CLOSE_SECONDS = 1.0
"""Longest wait for calls on their way when the limiter is closed."""
RENEWED_AT_ONCE = 200
"""Counters in one call, so that no call keeps the server busy for long."""

SEED_TRIES = 3

_WINDOW, _CALENDAR = (
    Kind.SLIDING_WINDOW,
    Kind.RESERVED_CALENDAR,
)  # looking it up in the class costs as much as the comparison
RESERVATION_MS = int(RESERVATION_SECONDS * 1000)
_FAILURES = (RedisError, OSError, TimeoutError)
T = TypeVar("T")
_Part = tuple[Charge, int, int]
"""What is settled of one counter: units no longer held, and units used."""

_log = get_logger("rate_limit")


class RedisLimiter:
    """Exact across processes: the server's clock and atomic scripts. How long a call may take is up to the client."""

    def __init__(self, scripts: ScriptClient, *, by_hash_tag: bool = False, seeder: Seeder | None = None) -> None:
        """
        Args:
            scripts: runs them.
            by_hash_tag: counters of different tags are never in one call, as a cluster demands; then `acquire` and
                `read` must be given such alone, see ClusterLimiter.
            seeder: tells budgets that begin their life what was spent before; without it they begin at zero.
        """
        self._scripts = scripts
        self._seeder = seeder
        self._by_hash_tag = by_hash_tag
        self._reservations = Reservations()
        self._settling: set[asyncio.Future[Any]] = set()
        self._given_up: set[asyncio.Future[Any]] = set()

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        """See RateLimiter.acquire. Raises CountersUnknown where a budget begins its life and nobody knows at what."""
        started = time.perf_counter()
        decision = await self._acquire(charges)
        if isinstance(decision, Decision):
            return decision
        for _ in range(SEED_TRIES):
            assert self._seeder is not None  # noqa: S101 - for mypy: without one no script asks
            await self._seeder.seed(charges, decision, self._head(self._reservations.current_holder), started)
            started = time.perf_counter()
            decision = await self._acquire(charges)
            if isinstance(decision, Decision):
                return decision
        raise CountersUnknown("a budget's counter is lost again and again")

    async def _acquire(self, charges: Sequence[Charge]) -> Decision | Sequence[int]:
        """The decision, or what the script asks for."""
        seeder = self._seeder
        keys = [charge.counter for charge in charges]
        arguments = self._head(self._reservations.holder_id())
        holding = False
        for charge in charges:
            rule = charge.rule
            if rule.kind is _WINDOW:
                arguments += (rule.script_kind, rule.limit, charge.units, rule.window_microseconds)
            else:
                holding = True
                known = self._reservations.known(charge.counter)
                if rule.kind is _CALENDAR:
                    asks = 0 if seeder is None else seeder.asks(charge.counter)
                    arguments += (rule.script_kind, rule.limit, charge.units, known, asks, *rule.script_time())
                else:
                    arguments += (rule.script_kind, rule.limit, charge.units, known, *rule.script_time())
        started = time.perf_counter()
        if holding:
            answer = await self._claim(charges, keys, arguments)
        else:
            answer = await self._call(ACQUIRE, keys, arguments)
        metrics.LIMITER_SECONDS.observe(time.perf_counter() - started)
        return answer[2:] if answer[0] < 0 else self._decision(charges, answer, holding)

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        """See RateLimiter.read."""
        started = time.perf_counter()
        answer = await self._read(charges)
        if self._seeder is not None and len(answer) > 2 + 2 * len(charges):
            with contextlib.suppress(CountersUnknown):  # then they are told as they stand
                asked, head = answer[2 + 2 * len(charges) :], self._head(self._reservations.current_holder)
                await self._seeder.seed(charges, asked, head, started)
                answer = await self._read(charges)
        return tuple(_state(charge.rule, answer, index) for index, charge in enumerate(charges))

    async def _read(self, charges: Sequence[Charge]) -> list[int]:
        arguments = self._head(self._reservations.current_holder)
        for charge in charges:
            arguments += (charge.rule.script_kind, charge.rule.limit, *charge.rule.script_time())
        return await self._call(READ, [charge.counter for charge in charges], arguments)

    def undo(self, charges: Sequence[Charge], decision: Decision) -> None:
        """Take back what was charged, without waiting for it."""
        decision.admission.release()
        parts = [
            (charge, 0, -charge.units)
            for charge, state in zip(charges, decision.states, strict=True)
            if charge.rule.kind is Kind.SLIDING_WINDOW and not state.shadow_denied
        ]
        if parts:
            self._settle(parts, decision.at_microseconds)

    async def renew_reservations(self) -> None:
        """Keep what this process holds from ending; a task for its whole life."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew_now()

    async def renew_now(self) -> bool:
        """Renew once. Whether all of it was renewed."""
        holder, former = self._reservations.holder_id(), tuple(self._reservations.previous_holders)
        for counters in self._together(self._reservations.counters(), lambda counter: counter):
            for first in range(0, len(counters), RENEWED_AT_ONCE):
                some = counters[first : first + RENEWED_AT_ONCE]
                known = [self._reservations.known(counter) for counter in some]
                try:
                    await self._scripts.run(RENEW, some, [*self._head(holder), len(former), *former, *known])
                except _FAILURES:
                    metrics.LIMITER_SETTLEMENTS.labels("renewal_failed").inc()
                    return False
        for name in former:
            if name in self._reservations.previous_holders:
                self._reservations.previous_holders.remove(name)
        return True

    def end(
        self,
        charges: Sequence[Charge],
        at_microseconds: int,
        tokens: int | None,
        cost: int | None,
        assumed_costs: Mapping[str, int] | None = None,
    ) -> None:
        """Let go what was held, and count what was used, without waiting for it."""
        parts = []
        for charge in charges:
            self._reservations.remove(charge.counter, charge.units)
            match charge.rule.unit:
                case "tokens":
                    used = charge.units if tokens is None else tokens
                case "cost_usd":
                    used = cost if cost is not None else (assumed_costs or {}).get(charge.rule.name, charge.units)
                case _:
                    used = 0
            parts.append((charge, charge.units, max(0, used)))
        self._settle(parts, at_microseconds)

    def settlement_of(self, charges: Sequence[Charge], at_microseconds: int) -> Settlement:
        """What `end` would send if nobody knew what was used, as `OrphanSettlements` takes it."""
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
        """End what the seeder does, and wait at most `CLOSE_SECONDS` for the calls that are still on their way, so that
        none opens a connection after its client was closed. The caller that opened the client closes it."""
        if self._seeder is not None:
            await self._seeder.aclose()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                # A call whose request was given up is followed by the settlement that returns what it got.
                while on_their_way := self._given_up | self._settling:
                    await asyncio.wait(on_their_way)

    @staticmethod
    def _head(holder: str) -> list[str | int]:
        return [BUCKETS, holder, RESERVATION_MS]

    def _together(self, things: Iterable[T], counter: Callable[[T], str]) -> Iterable[list[T]]:
        """What may go into one call."""
        if not self._by_hash_tag:
            return (list(things),)
        groups: dict[str, list[T]] = {}
        for thing in things:
            groups.setdefault(hash_tag(counter(thing)), []).append(thing)
        return groups.values()

    async def _claim(self, charges: Sequence[Charge], keys: list[str], arguments: list[str | int]) -> list[int]:
        """A call whose answer is needed even if the request is given up meanwhile: it may have got what it asked."""
        call = self._scripts.run(ACQUIRE, keys, arguments)
        try:
            return await asyncio.shield(call)
        except _FAILURES as error:
            self._reservations.mark_uncertain()
            raise _unavailable() from error
        except asyncio.CancelledError:
            self._given_up.add(call)
            call.add_done_callback(lambda done: self._give_back(charges, done))
            raise

    def _give_back(self, charges: Sequence[Charge], call: asyncio.Future[list[int]]) -> None:
        self._given_up.discard(call)
        if call.cancelled() or call.exception() is not None:
            self._reservations.mark_uncertain()
        elif call.result()[0] >= 0:
            self._decision(charges, call.result(), True).admission.release()

    async def _call(self, script: Script, keys: list[str], arguments: list[str | int]) -> list[int]:
        try:
            answer: list[int] = await self._scripts.run(script, keys, arguments)
        except _FAILURES as error:
            raise _unavailable() from error
        return answer

    def _decision(self, charges: Sequence[Charge], answer: list[int], holding: bool) -> Decision:
        states = tuple([_state(charge.rule, answer, index) for index, charge in enumerate(charges)])
        if answer[0]:
            return Decision(states, states[answer[0] - 1], at_microseconds=answer[1])
        if not holding:
            return Decision(states, at_microseconds=answer[1])
        held = [
            charge
            for charge, state in zip(charges, states, strict=True)
            if charge.rule.kind is not Kind.SLIDING_WINDOW and not state.shadow_denied
        ]
        for charge in held:
            self._reservations.add(charge.counter, charge.units)
        admission = RedisAdmission(self, held, answer[1]) if held else NOTHING_RESERVED
        return Decision(states, None, admission, answer[1])

    def _settle(self, parts: Sequence[_Part], at_microseconds: int) -> None:
        """Send it without waiting: the next request of this process comes after it on the connection."""
        if len(self._settling) >= MAX_SETTLING:
            metrics.LIMITER_SETTLEMENTS.labels("dropped").inc()
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it is over: what is held ends by itself
            return
        for together in self._together(parts, lambda part: part[0].counter):
            call = self._scripts.run(SETTLE, *self._settlement(together, at_microseconds))
            self._settling.add(call)
            call.add_done_callback(self._settled)

    def _settled(self, call: asyncio.Future[Any]) -> None:
        self._settling.discard(call)
        error = None if call.cancelled() else call.exception()
        if error is None:
            metrics.LIMITER_SETTLEMENTS.labels("sent").inc()
            return
        self._reservations.mark_uncertain()
        metrics.LIMITER_SETTLEMENTS.labels("failed").inc()
        _log.debug("settlement_failed", error=type(error).__name__)

    def _settlement(self, parts: Sequence[_Part], at_microseconds: int) -> tuple[list[str], list[str | int]]:
        """Keys and arguments of the script."""
        arguments = [*self._head(self._reservations.current_holder), at_microseconds]
        for charge, released, used in parts:
            arguments += (charge.rule.script_kind, released, used, *charge.rule.script_time())
        return [charge.counter for charge, _, _ in parts], arguments


class RedisAdmission:
    """See Admission. One that is thrown away unsettled, as after a bug, is settled with what it reserved."""

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
            limiter.end(self._charges, self._at, tokens, cost_microusd, assumed_costs)

    def release(self) -> None:
        """See Admission.release."""
        self.settle(0, 0)

    def settlement(self) -> Settlement:
        """See Admission.settlement: what was reserved of tokens and costs is taken for used."""
        if self._limiter is None or all(charge.rule.kind is Kind.CONCURRENCY for charge in self._charges):
            return ()
        return self._limiter.settlement_of(self._charges, self._at)

    def __del__(self) -> None:
        self.settle(None, None)


def _unavailable() -> LimiterUnavailable:
    return LimiterUnavailable("The rate limiter cannot be reached right now. Try again shortly.", retry_after=1)


def _state(rule: Rule, answer: Any, index: int) -> RuleState:
    remaining: int = answer[2 * index + 2]
    if remaining < 0:
        return RuleState(rule, -1 - remaining, answer[2 * index + 3] / 1e6, shadow_denied=True)
    return RuleState(rule, remaining, answer[2 * index + 3] / 1e6)
