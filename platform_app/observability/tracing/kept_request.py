"""A kept request as one line of JSON, from a worker to the exporter's process."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from platform_app.observability.context import RequestContext
from platform_app.observability.record import AttemptRecord, TokenCounts

MAX_TEXT = 512
"""Longer texts of clients and providers are cut."""


@dataclass(frozen=True, slots=True)
class KeptAttempt:
    """See AttemptRecord. Times are microseconds since the request's start."""

    provider: str
    model: str
    upstream_model: str
    operation: str
    stream: bool
    started: int
    ended: int
    first_chunk: int | None
    span_id: str
    server: str
    outcome: str
    status: int | None
    upstream_request_id: str | None
    message: str | None
    response_id: str | None
    response_model: str | None
    finish_reason: str | None
    usage: Mapping[str, int] | None
    """Tokens by type: input, output, cached, cache_write, reasoning."""
    cost_microusd: int | None
    max_tokens: int | None = None
    temperature: float | None = None
    label: str | None = None
    """The upstream model in metrics, if it is not `upstream_model`: never a name that a client chose."""

    @property
    def sent(self) -> bool:
        """Whether the provider got a request."""
        return bool(self.span_id)


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """Everything that a trace shows of one request. Times are microseconds since its start, unless said otherwise."""

    kept: str
    """A value of sampling.Kept."""
    trace_id: str
    span_id: str
    parent_id: str | None
    sampled: bool
    started_at: int
    """Nanoseconds since 1970, in the unit of OTLP."""
    ended: int
    request_id: str
    method: str
    route: str
    path: str
    """The client's path without its query, cut; a span attribute and never a label."""
    scheme: str
    http_version: str
    host: str | None
    user_agent: str | None
    client_address: str
    status: int
    """499: the client disconnected first."""
    decision: str
    reason: str | None
    key_id: str | None
    owner: str | None
    model: str | None
    overhead: int
    hops: Sequence[tuple[str, int, int, str]]
    attempts: Sequence[KeptAttempt]
    denied_by: str | None = None
    """The name of the rule that denied the request."""
    content: Mapping[str, str] | None = None
    """The prompt and the output as JSON texts, cut; only if the operator opted in."""

    def line(self) -> bytes:
        """Return the request as one line with its line feed."""
        return orjson.dumps(self, option=orjson.OPT_APPEND_NEWLINE)


def parse_line(line: bytes) -> KeptRequest:
    """Return the request of a line. Raises ValueError for any other line, as a killed worker leaves."""
    try:
        fields = orjson.loads(line)
        fields["attempts"] = [KeptAttempt(**attempt) for attempt in fields["attempts"]]
        fields["hops"] = [
            (str(name), int(start), int(end), str(outcome)) for name, start, end, outcome in fields["hops"]
        ]
        return KeptRequest(**fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"not a kept request: {error}") from None


def kept_request(kept: str, context: RequestContext, http: Mapping[str, Any], status: int, ended: float) -> KeptRequest:
    """Return what is exported of a request that has ended.

    Args:
        kept: why.
        context: the request.
        http: path, scheme, http_version, host and user_agent, as the client sent them.
        status: the response's status, or 499.
        ended: time.perf_counter().
    """
    started = context.started

    def at(moment: float) -> int:
        return round((moment - started) * 1e6)

    return KeptRequest(
        kept=kept,
        trace_id=context.trace.trace_id,
        span_id=context.trace.span_id,
        parent_id=context.trace.parent_id,
        sampled=context.trace.sampled,
        started_at=time.time_ns() - round((time.perf_counter() - started) * 1e9),
        ended=at(ended),
        request_id=context.request_id,
        method=context.method,
        route=context.route,
        status=status,
        client_address=context.client_address,
        decision=context.decision,
        reason=context.reason,
        key_id=context.key_id,
        owner=context.owner,
        model=context.model,
        overhead=round(context.record.overhead(started, ended) * 1e6),
        hops=[(name, at(start), at(end), outcome) for name, start, end, outcome in context.record.hops],
        attempts=[_kept_attempt(attempt, at, ended) for attempt in context.record.attempts],
        denied_by=_denied_by(context),
        content=None if context.content is None else context.content.content(),
        **http,
    )


def _kept_attempt(attempt: AttemptRecord, at: Any, ended: float) -> KeptAttempt:
    response = attempt.response or {}
    return KeptAttempt(
        provider=attempt.provider,
        model=attempt.model,
        upstream_model=attempt.upstream_model,
        operation=attempt.operation,
        stream=attempt.stream,
        started=at(attempt.started),
        ended=at(ended if attempt.ended is None else attempt.ended),
        first_chunk=None if attempt.first_chunk is None else at(attempt.first_chunk),
        span_id=attempt.span_id,
        server=attempt.server,
        outcome=attempt.outcome,
        status=attempt.status,
        upstream_request_id=attempt.upstream_request_id,
        message=_text(attempt.message),
        response_id=_text(response.get("id")),
        response_model=_text(response.get("model")),
        finish_reason=_text(attempt.finish_reason),
        usage=None if attempt.usage is None else _tokens(attempt.usage),
        cost_microusd=attempt.cost_microusd,
        max_tokens=attempt.max_tokens if type(attempt.max_tokens) is int else None,
        temperature=attempt.temperature if isinstance(attempt.temperature, int | float) else None,
        label=attempt.label,
    )


def _denied_by(context: RequestContext) -> str | None:
    denied = context.limits.denied_by if context.limits is not None else None
    return None if denied is None else str(denied.rule.name)


def _tokens(usage: TokenCounts) -> dict[str, int]:
    return {
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
        "cached": usage.cached_tokens,
        "cache_write": usage.cache_write_tokens,
        "reasoning": usage.reasoning_tokens,
    }


def _text(value: object) -> str | None:
    """Return a provider's text, cut, and without half a surrogate pair, which JSON cannot express."""
    return value[:MAX_TEXT].encode(errors="replace").decode() if isinstance(value, str) else None
