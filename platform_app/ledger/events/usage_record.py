"""The event of every request that reached a provider: what it used, what that cost, how long it took."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import orjson

from platform_app.ledger.events import fields
from platform_app.ledger.events.fields import MAX_MS, Members

N = TypeVar("N", int, float)

KIND = "usage"

MAX_NAME = 256
"""Characters of any text here; the longest names that configuration and keys allow have 200."""
MAX_TOKENS = 2**31 - 1
MAX_COST_MICROUSD = 10**12
"""A million dollars for one request."""
MAX_ATTEMPTS = 2**15 - 1
MAX_PROVIDER_USAGE = 1024
"""Characters of a provider's own counts; longer ones are left out."""

OK, CLIENT_CLOSED = "ok", "client_closed"
"""The outcomes that are no error."""
INTERRUPTED = "interrupted"
"""The outcome of a call whose process died before the call was over."""


@dataclass(slots=True)  # frozen ones take three times as long to make, and there are two of each for every request
class UsageRecord:
    """What one request used; a request has exactly one if a provider was called. Holds no prompt and no answer."""

    event_id: str
    """32 lower-case hex digits; two lines with the same one are the same event."""
    occurred_at: datetime
    """UTC, when the provider was first called: the same in the record of a call that was interrupted and in that of its
    end, so that of two with the same event id only one is stored."""
    request_id: str
    trace_id: str
    """32 lower-case hex digits."""
    key_id: str
    owner: str
    """The key's owner at that time."""
    route: str
    """The route's template."""
    provider: str
    """Who was called last."""
    model: str
    """The public name."""
    upstream_model: str
    """The name at the provider."""
    stream: bool
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    """Those of the prompt that the provider had in its cache; prompt_tokens counts them too."""
    estimated: bool
    """The tokens were estimated here, since the provider did not count, or the process died before it had."""
    cost_microusd: int | None
    """Millionths of a US dollar; None: no price is known."""
    duration_ms: float
    """The provider call, all attempts."""
    first_token_ms: float | None
    """To a stream's first token; None where there was none."""
    attempts: int
    outcome: str
    """`ok`, `client_closed`, `interrupted`, or the error code that the caller got."""
    provider_usage: str | None = None
    """The counts that the provider sent, as JSON, numbers alone; None where it sent none."""

    def line(self) -> bytes:
        """This event as a line of a spool. What is out of bounds, such as a provider's absurd token count, is cut to
        them, since a line that no reader takes would lose the whole record."""
        return orjson.dumps(
            {
                "kind": KIND,
                "event_id": self.event_id,
                "occurred_at": self.occurred_at,
                "request_id": self.request_id[:MAX_NAME],
                "trace_id": self.trace_id,
                "key_id": self.key_id[:MAX_NAME],
                "owner": self.owner[:MAX_NAME],
                "route": self.route[:MAX_NAME],
                "provider": self.provider[:MAX_NAME],
                "model": self.model[:MAX_NAME],
                "upstream_model": self.upstream_model[:MAX_NAME],
                "stream": self.stream,
                "prompt_tokens": _within(self.prompt_tokens, MAX_TOKENS),
                "completion_tokens": _within(self.completion_tokens, MAX_TOKENS),
                "cached_tokens": _within(self.cached_tokens, MAX_TOKENS),
                "estimated": self.estimated,
                "cost_microusd": None if self.cost_microusd is None else _within(self.cost_microusd, MAX_COST_MICROUSD),
                "duration_ms": _within(self.duration_ms, MAX_MS),
                "first_token_ms": None if self.first_token_ms is None else _within(self.first_token_ms, MAX_MS),
                "attempts": _within(self.attempts, MAX_ATTEMPTS),
                "outcome": self.outcome[:MAX_NAME],
                "provider_usage": self.provider_usage,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )


def decode_usage(members: Members) -> UsageRecord:
    """The record that a line's members hold. Raises BadLineError."""
    return UsageRecord(
        event_id=fields.hex_id(members, "event_id"),
        occurred_at=fields.time(members, "occurred_at"),
        request_id=fields.text(members, "request_id", MAX_NAME),
        trace_id=fields.hex_id(members, "trace_id"),
        key_id=fields.text(members, "key_id", MAX_NAME),
        owner=fields.text(members, "owner", MAX_NAME),
        route=fields.text(members, "route", MAX_NAME),
        provider=fields.text(members, "provider", MAX_NAME),
        model=fields.text(members, "model", MAX_NAME),
        upstream_model=fields.text(members, "upstream_model", MAX_NAME),
        stream=fields.flag(members, "stream"),
        prompt_tokens=fields.count(members, "prompt_tokens", MAX_TOKENS),
        completion_tokens=fields.count(members, "completion_tokens", MAX_TOKENS),
        cached_tokens=fields.count(members, "cached_tokens", MAX_TOKENS),
        estimated=fields.flag(members, "estimated"),
        cost_microusd=_cost(members),
        duration_ms=fields.milliseconds(members, "duration_ms"),
        first_token_ms=_first_token(members),
        attempts=fields.count(members, "attempts", MAX_ATTEMPTS),
        outcome=fields.text(members, "outcome", MAX_NAME),
        provider_usage=_provider_usage(members),
    )


def _provider_usage(members: Members) -> str | None:
    """What is no object is left out: it is not worth the whole record."""
    text = members.get("provider_usage")
    if not isinstance(text, str) or len(text) > MAX_PROVIDER_USAGE or "\\" in text:
        return None
    try:
        return text if isinstance(orjson.loads(text), dict) else None
    except orjson.JSONDecodeError:
        return None


def _cost(members: Members) -> int | None:
    if members.get("cost_microusd") is None:
        return None
    return fields.count(members, "cost_microusd", MAX_COST_MICROUSD)


def _first_token(members: Members) -> float | None:
    return None if members.get("first_token_ms") is None else fields.milliseconds(members, "first_token_ms")


def _within(value: N, most: N) -> N:
    return min(max(0, value), most)
