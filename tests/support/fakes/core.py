"""Stand-ins at the seams, shared by several unit tests."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import REGISTRY

from platform_app.auth.keys.records import KeyRecord
from platform_app.errors import LimiterUnavailable, SecretNotFound
from platform_app.ledger.events.event import LedgerEvent, UsageRecord
from platform_app.ledger.interfaces import Intent
from platform_app.llm.chunk_stream import ChunkStream
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.models.route import Route
from platform_app.llm.requests import ModelCall
from platform_app.llm.responses import ChatChunk, ModelResponse
from platform_app.observability.context import RequestContext
from platform_app.observability.tracing.trace_context import continue_trace
from platform_app.rate_limit.limiter import NOTHING_RESERVED, Admission, Decision, RuleState
from platform_app.rate_limit.matching import Charge
from platform_app.secret_store.base import Secret

CREATED = datetime(2026, 1, 1, tzinfo=UTC)


class FakeClock:
    """A monotonic clock that the test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Count:
    """How much a counter grew since this was made."""

    def __init__(self, sample: str, **labels: str) -> None:
        self._sample = sample
        self._labels = labels
        self._before = self._read()

    def _read(self) -> float:
        return REGISTRY.get_sample_value(self._sample, self._labels) or 0.0

    @property
    def grown(self) -> float:
        return self._read() - self._before


def context(route: str = "/v1/platform/chat") -> RequestContext:
    """What the middleware would have made of a request."""
    return RequestContext("req-1", continue_trace(None), "POST", "127.0.0.1", 0.0, route=route)


def key_record(
    key_id: str = "k" * 12,
    *,
    owner: str = "team-a",
    scopes: Sequence[str] = ("platform:chat",),
    allowed_models: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    revoked_at: datetime | None = None,
) -> KeyRecord:
    """A key's row."""
    return KeyRecord(
        key_id=key_id,
        name="batch",
        owner=owner,
        environment="test",
        scopes=scopes,
        allowed_models=allowed_models,
        limits=None,
        expires_at=expires_at,
        created_at=CREATED,
        created_by="ops",
        revoked_at=revoked_at,
        revoked_by=None,
        revoked_reason=None,
        last_used_at=None,
    )


class FakeLimiter:
    """Allows with `admission`, denies with `deny_seconds`, or is unavailable; notes what it was asked."""

    def __init__(self, steps: list[str] | None = None) -> None:
        self.asked: list[list[Charge]] = []
        self.deny_seconds: float | None = None
        self.down = False
        self.closed = False
        self.admission: Admission = NOTHING_RESERVED
        self._steps = steps if steps is not None else []

    async def acquire(self, charges: Sequence[Charge]) -> Decision:
        self._steps.append("limiter")
        self.asked.append(list(charges))
        if self.down:
            raise LimiterUnavailable("down", retry_after=1) from ConnectionRefusedError()
        states = tuple(RuleState(charge.rule, charge.rule.limit - charge.units, 1.0) for charge in charges)
        if self.deny_seconds is None:
            return Decision(states, None, self.admission)
        return Decision(states, RuleState(charges[0].rule, 0, self.deny_seconds))

    async def read(self, charges: Sequence[Charge]) -> tuple[RuleState, ...]:
        if self.down:
            raise LimiterUnavailable("down", retry_after=1) from ConnectionRefusedError()
        return tuple(RuleState(charge.rule, charge.rule.limit, 0.0) for charge in charges)

    async def aclose(self) -> None:
        self.closed = True


class FakeSecrets:
    """A secret store of a dictionary, or one that raises `error`."""

    scheme = "fake"

    def __init__(self, values: dict[str, str], steps: list[str] | None = None) -> None:
        self.values = values
        self.error: Exception | None = None
        self.asked: list[str] = []
        self.closed = False
        self._steps = steps if steps is not None else []

    async def get(self, name: str) -> Secret:
        self._steps.append("secret")
        self.asked.append(name)
        if self.error is not None:
            raise self.error
        if name not in self.values:
            raise SecretNotFound(f"no secret {name}")
        return Secret(name, self.values[name])

    async def aclose(self) -> None:
        self.closed = True


class FakeUpstream:
    """A scripted upstream: responds with `completion` or `chunks`, and then raises `error`, if set.
    With `wait`, it waits there first. Without `sends`, it fails before any provider is called."""

    def __init__(self, route: Route, steps: list[str] | None = None) -> None:
        self.route = route
        self.completion = ModelResponse(b"{}", {"choices": [{"message": {"role": "assistant", "content": "hi"}}]})
        self.chunks: list[ChatChunk] = []
        self.error: BaseException | None = None
        self.wait: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        self.sends: int = True
        """How many calls are sent."""
        self.calls: list[ModelCall] = []
        self.streams_closed = 0
        self._steps = steps if steps is not None else []

    async def send(self, call: ModelCall) -> UpstreamResponse:
        self._steps.append("upstream")
        self.calls.append(call)
        call.attempt_log.route = self.route
        for _ in range(self.sends):
            call.attempt_log.attempt(self.route)
        if call.stream and self.chunks:
            chunks = self._relay()
            return ChunkStream(await anext(chunks), chunks)
        await self._pause()
        if self.error is not None:
            raise self.error
        return self.completion

    async def _relay(self) -> AsyncGenerator[ChatChunk, None]:
        try:
            for chunk in self.chunks:
                yield chunk
            await self._pause()
            if self.error is not None:
                raise self.error
        finally:
            self.streams_closed += 1

    async def _pause(self) -> None:
        if self.wait is not None:
            self.waiting.set()
            await self.wait.wait()


class FakeLedger:
    """Remembers what it was given."""

    def __init__(self) -> None:
        self.events: list[LedgerEvent] = []
        self.intents: list[tuple[UsageRecord, object]] = []
        self.open_intents = 0

    def admit(self) -> None:
        """Everything is welcome."""

    def problem(self) -> str | None:
        return None

    def append(self, event: LedgerEvent) -> None:
        self.events.append(event)

    def intend(self, record: UsageRecord, settlement: object = None) -> Intent:
        self.intents.append((replace(record), settlement))  # as it is now: the real one is written down
        return FakeIntent(self)


class FakeIntent:
    """Remembers in its ledger whether it is open."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger = ledger
        ledger.open_intents += 1

    def update(self, record: UsageRecord, settlement: object = None) -> None:
        self._ledger.intents.append((replace(record), settlement))

    def end(self) -> None:
        self._ledger.open_intents -= 1
