"""The record of one request: its hops, and its attempts at providers.

The code that does the work appends to it. At the request's end the record becomes metrics, the access line, the rows of
the ledger and, for a request whose trace is kept, spans (docs/adr/0033).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

Hop = tuple[str, float, float, str]
"""Name, start, end (both time.perf_counter(), in seconds) and outcome. A hop that takes no time has equal times."""

AUTH = "auth"
"""Authentication, a look-up in PostgreSQL included."""
LIMITS = "limits"
"""The rate limiter's round trip."""
RECEIVE = "receive"
"""The wait for the client's body. Not the gateway's overhead."""
PARSE = "parse"
"""Parsing and validation of the body."""
IDEMPOTENCY = "idempotency"
"""The look-up of an Idempotency-Key, and the wait for the request that has it."""
SECRET = "secret"  # noqa: S105 - the name of a hop
"""The look-up of a provider's credential."""
QUEUE = "queue"
"""The wait for a place in a provider's concurrency limit."""
RETRY_WAIT = "retry_wait"
"""The wait before a retry; the outcome is the error before it."""
FALLBACK = "fallback"
"""The change to the model's next route, at one moment; the outcome is the error before it."""
PROVIDER = "provider"
"""One attempt. It has no hop: `RequestRecord.attempts` has it."""
LEDGER = "ledger"
"""Writing a record to the spool."""

HOPS = (AUTH, LIMITS, RECEIVE, PARSE, IDEMPOTENCY, SECRET, QUEUE, RETRY_WAIT, FALLBACK, PROVIDER, LEDGER)
"""Every name of a hop, in the usual order: the label values of the metrics."""
_WAITS = frozenset({RECEIVE, RETRY_WAIT, QUEUE})
OK = "ok"
MAX_MESSAGE = 500
"""Characters of a provider's message that are recorded."""


class TokenCounts(Protocol):
    """The tokens of one call; llm.usage.counts.TokenUsage."""

    @property
    def prompt_tokens(self) -> int:
        """Return the tokens of the prompt, cached ones included."""
        ...

    @property
    def completion_tokens(self) -> int:
        """Return the tokens of the output, those of the model's thinking included."""
        ...

    @property
    def cached_tokens(self) -> int:
        """Return the prompt tokens that were read from the provider's cache."""
        ...

    @property
    def cache_write_tokens(self) -> int:
        """Return the prompt tokens that were written to the provider's cache."""
        ...

    @property
    def reasoning_tokens(self) -> int:
        """Return the output tokens of the model's thinking."""
        ...


@dataclass(slots=True)
class AttemptRecord:
    """One attempt at one provider, or one that was not sent. It holds no prompt, output or credential."""

    provider: str
    model: str
    """The public name."""
    upstream_model: str
    operation: str
    """A value of `gen_ai.operation.name`."""
    stream: bool
    started: float
    """time.perf_counter(), as all times here."""
    span_id: str = ""
    """Of the span that the provider gets in `traceparent`; empty if nothing was sent."""
    server: str = ""
    """Host and port of the provider's URL."""
    request_sent: bool = False
    """Whether the request was written to a connection: the provider may have processed it."""
    received_bytes: int = 0
    """Bytes of the response's body that were read."""
    received_all: bool = False
    """Whether the whole body of a response without a stream was read."""
    first_chunk: float | None = None
    """When the first chunk of a stream arrived."""
    chunks: int = 0
    """Chunks of a stream that arrived, the first one included."""
    ended: float | None = None
    """When the last byte arrived, or the attempt failed; None while it runs."""
    outcome: str = OK
    """ok, the error's code, client_closed; breaker_open or another error's code if nothing was sent."""
    status: int | None = None
    """The provider's HTTP status; None if no response arrived."""
    upstream_request_id: str | None = None
    """The provider's id of the request, which its support asks for."""
    message: str | None = None
    """The provider's message about the failure, without our credential, and cut."""
    response: Mapping[str, Any] | None = None
    """The parsed body, or that of a stream's first chunk: for its id and model. Never exported as a whole."""
    finish_reason: str | None = None
    usage: TokenCounts | None = None
    """As charged; None if nothing is charged for this attempt."""
    cost_microusd: int | None = None
    max_tokens: object = None
    """As the client wrote it: any JSON value. None if it did not."""
    temperature: object = None
    """As the client wrote it."""
    label: str | None = None
    """The upstream model in metrics, if it is not `upstream_model`: the template of a wildcard's route."""

    @property
    def sent(self) -> bool:
        """Whether a request was sent, or was about to be."""
        return bool(self.span_id)


@dataclass(slots=True)
class RequestRecord:
    """What happened during one request, in the order of time."""

    hops: list[Hop] = field(default_factory=list)
    attempts: list[AttemptRecord] = field(default_factory=list)
    first_byte: float | None = None
    """When the response's first byte was sent."""

    @property
    def last_sent(self) -> AttemptRecord | None:
        """The last attempt that a provider got."""
        return next((attempt for attempt in reversed(self.attempts) if attempt.sent), None)

    def waited(self, until: float) -> float:
        """Return the seconds until this time in which the gateway waited for others: for the client's body, for
        providers, and before retries. Waits that overlap count twice; they do not overlap today."""
        waited = 0.0
        for name, start, end, _ in self.hops:
            if name in _WAITS and start < until:
                waited += (end if end < until else until) - start
        for attempt in self.attempts:
            if attempt.started < until:
                end = attempt.first_chunk or attempt.ended or until
                waited += (end if end < until else until) - attempt.started
        return waited

    def overhead(self, started: float, ended: float) -> float:
        """Return the seconds that the gateway itself added before the response's first byte."""
        until = self.first_byte if self.first_byte is not None else ended
        return max(0.0, until - started - self.waited(until))
