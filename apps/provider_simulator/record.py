"""The simulator's memory: one record for each request, and counters by model.

Records are in a ring buffer, so that a benchmark of a million requests needs no more memory than one of a thousand;
the counters continue. Everything runs on one event loop and needs no locks.
"""

import asyncio
import hashlib
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import orjson

KEPT_RECORDS = 1000
KEPT_BODIES = 200
KEPT_BODY_BYTES = 64 * 1024

FinalOutcome = Literal["completed", "client_closed", "aborted"]
Outcome = Literal["open"] | FinalOutcome


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The current state of one request.

    `started` and `ended` are seconds of the monotonic clock. `closed_after_ms` is set for `client_closed` alone.
    `credential` is the start of the key's SHA-256 in hex (`credential_digest`), never the key. `status` is that
    of a completed response. `body` is absent after newer requests displaced it, and cut at 64 KiB, which
    `body_truncated` says.
    """

    id: str
    path: str
    model: str
    fault: str
    stream: bool
    started: float
    ended: float | None
    outcome: Outcome
    closed_after_ms: float | None
    status: int | None
    authorized: bool
    credential: str | None
    header_names: tuple[str, ...]
    traceparent: str | None
    body: bytes | None
    body_truncated: bool

    def to_json(self) -> dict[str, object]:
        """The record for the admin endpoint; a body that is JSON appears as such, any other as text."""
        fields = asdict(self)
        if self.body is not None:
            try:
                fields["body"] = orjson.loads(self.body)
            except orjson.JSONDecodeError:
                fields["body"] = self.body.decode("utf-8", "replace")
        return fields


@dataclass(slots=True)
class ModelStats:
    """Counters of one model name since the start or the last reset; `total` is the sum of the next four."""

    total: int = 0
    open: int = 0
    completed: int = 0
    client_closed: int = 0
    aborted: int = 0
    followed_redirects: int = 0


@dataclass(slots=True, eq=False)
class Entry:
    """A request in flight. `Ledger.finish` closes it. `serial` counts requests from 1, also across resets."""

    serial: int
    id: str
    path: str
    model: str
    stream: bool
    started: float
    credential: str | None
    header_names: tuple[str, ...]
    traceparent: str | None
    body: bytes | None
    body_truncated: bool
    stats: ModelStats
    fault: str = "ok"
    status: int | None = None
    ended: float | None = None
    outcome: Outcome = "open"

    def snapshot(self) -> RequestRecord:
        """The entry as it stands now."""
        closed_after_ms = None
        if self.outcome == "client_closed" and self.ended is not None:
            closed_after_ms = (self.ended - self.started) * 1000
        return RequestRecord(
            id=self.id,
            path=self.path,
            model=self.model,
            fault=self.fault,
            stream=self.stream,
            started=self.started,
            ended=self.ended,
            outcome=self.outcome,
            closed_after_ms=closed_after_ms,
            status=self.status,
            authorized=self.credential is not None,
            credential=self.credential,
            header_names=self.header_names,
            traceparent=self.traceparent,
            body=self.body,
            body_truncated=self.body_truncated,
        )


def credential_digest(key: str) -> str:
    """Return the first 12 hex digits of a key's SHA-256, which identify the key without storing it."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


class Ledger:
    """All records and counters of one simulator."""

    def __init__(self) -> None:
        self._sequence = 0
        self._entries: deque[Entry] = deque(maxlen=KEPT_RECORDS)
        self._bodies: deque[Entry] = deque()
        self._stats: dict[str, ModelStats] = {}
        self._attempts: Counter[str] = Counter()
        self._waiters: set[asyncio.Future[None]] = set()

    def begin(
        self,
        *,
        path: str,
        model: str,
        stream: bool,
        started: float,
        key: str | None,
        headers: Mapping[str, str],
        body: bytes,
    ) -> Entry:
        """Open the record of a request whose body has been read. `started` is `time.monotonic()` at its head."""
        self._sequence += 1
        stats = self._stats_of(model)
        stats.total += 1
        stats.open += 1
        entry = Entry(
            serial=self._sequence,
            id=f"req_sim_{self._sequence:012d}",
            path=path,
            model=model,
            stream=stream,
            started=started,
            credential=credential_digest(key) if key else None,
            header_names=tuple(name.lower() for name in headers),
            traceparent=headers.get("traceparent"),
            body=body[:KEPT_BODY_BYTES],
            body_truncated=len(body) > KEPT_BODY_BYTES,
            stats=stats,
        )
        self._entries.append(entry)
        self._bodies.append(entry)
        if len(self._bodies) > KEPT_BODIES:
            self._bodies.popleft().body = None
        self._wake()
        return entry

    def finish(self, entry: Entry, outcome: FinalOutcome) -> None:
        """Close a record once, with the counters that it opened, even after a reset."""
        entry.ended = time.monotonic()
        entry.outcome = outcome
        stats = entry.stats
        stats.open -= 1
        if outcome == "completed":
            stats.completed += 1
        elif outcome == "client_closed":
            stats.client_closed += 1
        else:
            stats.aborted += 1
        self._wake()

    def followed_redirect(self, model: str) -> None:
        """Count a client that followed the fault `redirect`."""
        self._stats_of(model).followed_redirects += 1

    def next_attempt(self, key: str) -> int:
        """Return the number of this attempt under `key`, from 1, for the fault `flaky`."""
        self._attempts[key] += 1
        return self._attempts[key]

    def requests(self, model: str | None = None) -> list[RequestRecord]:
        """Return the last records, oldest first, of one model or of all."""
        return [entry.snapshot() for entry in self._entries if model is None or entry.model == model]

    def stats(self) -> dict[str, dict[str, int]]:
        """The counters by model name."""
        return {model: asdict(stats) for model, stats in self._stats.items()}

    def count(self, model: str) -> int:
        """How many requests named this model."""
        stats = self._stats.get(model)
        return 0 if stats is None else stats.total

    def reset(self) -> None:
        """Clear all records and counters. Requests in flight are no longer recorded."""
        self._entries.clear()
        self._bodies.clear()
        self._stats.clear()
        self._attempts.clear()

    async def wait_for_outcome(self, model: str, outcome: Outcome, seconds: float) -> RequestRecord:
        """Wait until a record of the model has this outcome, and return the latest one.

        Raises:
            TimeoutError: no record had it within `seconds`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (found := self._latest(model, outcome)) is None:
            left = deadline - loop.time()
            if left <= 0:
                seen = Counter(record.outcome for record in self.requests(model))
                raise TimeoutError(f"no request of {model!r} was {outcome} in {seconds} s; seen: {dict(seen)}")
            await self._wait_for_change(left)
        return found

    async def _wait_for_change(self, seconds: float) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=seconds)
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _latest(self, model: str, outcome: Outcome) -> RequestRecord | None:
        for entry in reversed(self._entries):
            if entry.model == model and entry.outcome == outcome:
                return entry.snapshot()
        return None

    def _stats_of(self, model: str) -> ModelStats:
        stats = self._stats.get(model)
        if stats is None:
            stats = self._stats[model] = ModelStats()
        return stats
