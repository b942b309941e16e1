"""The hops and attempts of a request as two texts of its access decision (docs/adr/0036).

Hops are a list of names: `auth,parse,limits 147 2110,ledger`. A hop of 0.1 ms or more, or with an outcome other than
`ok`, has its start and its duration in microseconds, and that outcome: `retry_wait 5120 200000 provider_unavailable`.
Most hops of most requests are shorter, and formatting six of them takes longer than writing the whole line.

Attempts are a JSON array with an array for each attempt, see `_FIELDS`. A request whose only attempt succeeded has no
text: its usage record has all of it. Times count from the request's start.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from platform_app.observability.record import OK, AttemptRecord, Hop

MAX_HOPS = 40
"""A usual request has six; each retry adds up to four. Of more, the last ones are left out."""
MAX_HOPS_TEXT = 2500
MAX_ATTEMPTS = 12
"""Of more attempts, those before the last ones are left out; the usage record and the access line have their number."""
MAX_ATTEMPTS_TEXT = 4096
"""Bytes. A line must stay below the longest that a reader accepts, with each quote escaped twice."""
MAX_NAME, MAX_ID, MAX_MESSAGE = 100, 128, 300
"""Characters of the texts of an attempt."""

_FIELDS = (
    "provider", "upstream_model", "start_ms", "duration_ms", "outcome", "status", "upstream_request_id", "message",
)  # fmt: skip
"""The values of an attempt; `message` only if there is one. A field that is added goes to the end."""
_SHOWN_TIMES = frozenset({"start_ms", "duration_ms"})
"""Are stored in microseconds."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def hops_text(hops: Sequence[Hop], started: float) -> str | None:
    """Return hops as text; None if there are none. `started`: the request's start, as time.perf_counter()."""
    if not hops:
        return None
    if len(hops) > MAX_HOPS:
        hops = hops[:MAX_HOPS]
    return ",".join(
        [
            name if end - start < 1e-4 and outcome == OK else _timed(name, start - started, end - start, outcome)
            for name, start, end, outcome in hops
        ]
    )


def shown_hops(text: str) -> list[dict[str, Any]]:
    """Return the hops of such a text as JSON-ready data. Times are in milliseconds; None means less than 0.1."""
    return [_shown_hop(hop.split(" ")) for hop in text.split(",")]


def attempts_text(attempts: Sequence[AttemptRecord], started: float) -> str | None:
    """Return attempts as JSON; None if there are none, or one that succeeded."""
    if not attempts or (len(attempts) == 1 and attempts[0].outcome == OK):
        return None
    return _bounded(attempts[-MAX_ATTEMPTS:], started)


def shown_attempts(text: str | Sequence[Any]) -> list[dict[str, Any]]:
    """Return attempts as JSON-ready data, of such a text or of its parsed content."""
    parsed = orjson.loads(text) if isinstance(text, str) else text
    return [_shown_attempt(values) for values in parsed if isinstance(values, list)]


def _timed(name: str, start: float, duration: float, outcome: str) -> str:
    times = f"{name} {int(start * 1e6)} {int(duration * 1e6)}"
    return times if outcome == OK else f"{times} {outcome}"


def _values(attempt: AttemptRecord, started: float) -> tuple[Any, ...]:
    ended = attempt.ended
    return (
        attempt.provider,
        attempt.upstream_model,
        int((attempt.started - started) * 1e6),
        None if ended is None else int((ended - attempt.started) * 1e6),
        attempt.outcome,
        attempt.status,
        attempt.upstream_request_id,
    )


def _bounded(attempts: Sequence[AttemptRecord], started: float) -> str:
    """Return the text of attempts with each text cut; without messages, then with fewer attempts if it is too long."""
    rows = [[_cut(value, MAX_NAME) for value in _values(attempt, started)] for attempt in attempts]
    for row, attempt in zip(rows, attempts, strict=True):
        row[6] = _cut(attempt.upstream_request_id, MAX_ID)
    with_messages = [
        [*row, _cut(attempt.message, MAX_MESSAGE)] if attempt.message else row
        for row, attempt in zip(rows, attempts, strict=True)
    ]
    text = orjson.dumps(with_messages)
    while len(text) > MAX_ATTEMPTS_TEXT:
        text = orjson.dumps(rows)
        rows = rows[1:]
    return text.decode()


def _cut(value: Any, longest: int) -> Any:
    """Return a text without control characters and surrogates, and cut; any other value as it is."""
    if not isinstance(value, str):
        return value
    return _CONTROL.sub(" ", value.encode("utf-8", "replace").decode())[:longest]


def _shown_hop(parts: Sequence[str]) -> dict[str, Any]:
    name, *times = parts
    known = len(times) >= 2 and times[0].lstrip("-").isdigit() and times[1].isdigit()
    return {
        "name": name,
        "start_ms": int(times[0]) / 1000 if known else None,
        "duration_ms": int(times[1]) / 1000 if known else None,
        "outcome": times[2] if len(times) > 2 else OK,
    }


def _shown_attempt(values: Sequence[Any]) -> dict[str, Any]:
    named: Mapping[str, Any] = dict(zip(_FIELDS, values, strict=False))
    return {
        name: value / 1000 if name in _SHOWN_TIMES and isinstance(value, int | float) else value
        for name, value in ((field, named.get(field)) for field in _FIELDS)
    }
