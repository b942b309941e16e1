"""The event of every request that reached a provider: what it used, what that cost, how long it took."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from platform_app.ledger.events.codecs import Count, Flag, HexId, JsonObject, Microdollars, Milliseconds, Moment, Text
from platform_app.ledger.events.columns import Columns

MAX_NAME = 256
"""Characters of any text here; the longest names that configuration and keys allow have 200."""
MAX_SESSION = 128
"""Characters of a session's name."""
MAX_TOKENS = 2**31 - 1
MAX_COST_MICROUSD = 10**12
"""A million dollars for one request."""
MAX_ATTEMPTS = 2**15 - 1
MAX_PROVIDER_USAGE = 1024
"""Characters of a provider's own counts; longer ones are left out."""

OK, CLIENT_CLOSED = "ok", "client_closed"
"""The outcomes that are not errors."""
INTERRUPTED = "interrupted"
"""The outcome of a call whose process died before the call ended."""

_NAME = Text(MAX_NAME, MAX_NAME)


# Not frozen: frozen ones take three times as long to make, and each request makes two events.
@dataclass(slots=True, kw_only=True)
class UsageRecord:
    """What one request used. A request has exactly one record if a provider was called. It holds no prompt and no
    response."""

    occurred_at: Annotated[datetime, Moment()]
    """When the provider was first called, in UTC. The record of an interrupted call and that of its end have the same
    time, so that only one of two records with the same event id is stored."""
    event_id: Annotated[str, HexId()]
    """32 lower-case hex digits; two lines with the same id are the same event."""
    key_id: Annotated[str, _NAME]
    owner: Annotated[str, _NAME]
    """The key's owner at that time."""
    route: Annotated[str, _NAME]
    """The route's template."""
    provider: Annotated[str, _NAME]
    """The provider of the last attempt."""
    model: Annotated[str, _NAME]
    """The public name: the model's name in the config file, also where the client used an alias or a wildcard
    matched."""
    upstream_model: Annotated[str, _NAME]
    """The name at the provider."""
    stream: Annotated[bool, Flag()]
    prompt_tokens: Annotated[int, Count(MAX_TOKENS)]
    completion_tokens: Annotated[int, Count(MAX_TOKENS)]
    cached_tokens: Annotated[int, Count(MAX_TOKENS)]
    """Tokens of the prompt that the provider had in its cache; prompt_tokens counts them too."""
    estimated: Annotated[bool, Flag()]
    """The tokens were estimated here, because the provider did not count, or the process died before it had."""
    provider_usage: Annotated[str | None, JsonObject(MAX_PROVIDER_USAGE)] = None
    """The counts that the provider sent, as JSON, numbers alone; None if it sent none."""
    cost_microusd: Annotated[int | None, Microdollars(MAX_COST_MICROUSD)]
    """Millionths of a US dollar; None if no price is known."""
    duration_ms: Annotated[float, Milliseconds()]
    """The provider call, all attempts."""
    first_token_ms: Annotated[float | None, Milliseconds()]
    """Until a stream's first token; None if there was none."""
    attempts: Annotated[int, Count(MAX_ATTEMPTS)]
    outcome: Annotated[str, _NAME]
    """`ok`, `client_closed`, `interrupted`, or the error code that the caller got."""
    request_id: Annotated[str, _NAME]
    trace_id: Annotated[str, HexId()]
    """32 lower-case hex digits."""
    upstream_request_id: Annotated[str | None, _NAME] = None
    """The provider's id of the last attempt; None if the provider sent none."""
    session: Annotated[str | None, Text(MAX_SESSION, MAX_NAME)] = None
    """The client's own name of its session; None if the client sent none."""
    requested_model: Annotated[str | None, _NAME] = None
    """The name that the client asked for, if it is an alias of `model` or was matched by `model`, a wildcard."""

    def line(self) -> bytes:
        """Return this event as a line of a spool. A value out of bounds, such as a provider's absurd token count, is
        cut to the bound, because a line that no reader accepts would lose the whole record."""
        return _encode(self)


USAGE = Columns("usage", UsageRecord)
_encode = USAGE.encoder()
