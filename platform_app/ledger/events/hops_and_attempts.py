"""The hops and attempts of a request as two texts of its access decision (docs/adr/0036).

Hops are a list of names with their start and duration in microseconds: `limits 147 2110,queue 2400 9000`. A hop whose
outcome is not `ok` ends with it: `retry_wait 5120 200000 provider_unavailable`. Hops below 0.1 ms that succeeded are
left out: these are most hops of most requests, and writing their times takes longer than writing the rest of the
line.

Attempts are a JSON array with an array for each attempt, see `_FIELDS`. A request whose only attempt succeeded has no
text: its usage record has all of it. Times count from the request's start.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from platform_app.credential_forms import mask_credentials
from platform_app.observability.record import OK, AttemptRecord, Hop

MAX_HOPS_TEXT = 2500
"""Characters. A hop takes some 20; of more, the last ones are left out."""
MAX_ATTEMPTS = 12
"""Of more attempts, those before the last ones are left out; the usage record and the access line have their number."""
MAX_ATTEMPTS_TEXT = 4096
"""Bytes. A line must stay below the longest that a reader accepts, with each quote escaped twice."""
MAX_NAME, MAX_ID, MAX_MESSAGE = 100, 128, 300
"""Characters of the texts of an attempt."""

_FIELDS = (
    "provider", "upstream_model", "start_ms", "duration_ms", "outcome", "status", "upstream_request_id", "sent",
    "message",
)  # fmt: skip
"""The values of an attempt; `message` only if there is one. A field that is added goes to the end."""
_SHOWN_TIMES = frozenset({"start_ms", "duration_ms"})
"""Are stored in microseconds."""
_HOP = re.compile(r"(\w+) (-?\d+) (-?\d+)(?: (\w+))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


def hops_text(hops: Sequence[Hop], started: float) -> str | None:
    """Return hops as text; None if there are none of 0.1 ms or more. `started`: the request's start, as
    time.perf_counter()."""
    text = None
    for name, start, end, outcome in hops:  # a comprehension and a join take half as long again
        if end - start >= 1e-4 or outcome != "ok":
            hop = f"{name} {int((start - started) * 1e6)} {int((end - start) * 1e6)}"
            if outcome != "ok":
                hop = f"{hop} {outcome}"
            text = hop if text is None else f"{text},{hop}"
    return text


def shown_hops(text: str) -> list[dict[str, Any]]:
    """Return the hops of such a text as JSON-ready data, with times in milliseconds."""
    matches = (_HOP.fullmatch(hop) for hop in text.split(","))  # the last one may be cut
    return [
        {
            "name": match[1],
            "start_ms": int(match[2]) / 1000,
            "duration_ms": int(match[3]) / 1000,
            "outcome": match[4] or OK,
        }
        for match in matches
        if match is not None
    ]


def attempts_text(attempts: Sequence[AttemptRecord], started: float) -> str | None:
    """Return attempts as JSON; None if there are none, or one that succeeded."""
    if not attempts or (len(attempts) == 1 and attempts[0].outcome == OK):
        return None
    rows = [_row(attempt, started) for attempt in attempts[-MAX_ATTEMPTS:]]
    text = orjson.dumps(rows)
    if len(text) > MAX_ATTEMPTS_TEXT:
        text = _shortened(rows)
    return text.decode()


def shown_attempts(text: str | Sequence[Any]) -> list[dict[str, Any]]:
    """Return attempts as JSON-ready data, of such a text or of its parsed content."""
    parsed = orjson.loads(text) if isinstance(text, str) else text
    return [_shown_attempt(values) for values in parsed if isinstance(values, list)]


def attempt_of_usage(usage: Mapping[str, Any], start_ms: float | None) -> dict[str, Any]:
    """Return the only attempt of a request, which succeeded, from its usage record."""
    return {
        "provider": usage["provider"],
        "upstream_model": usage["upstream_model"],
        "start_ms": start_ms,
        "duration_ms": round(usage["duration_ms"], 3),
        "outcome": OK,
        "status": 200,
        "upstream_request_id": usage["upstream_request_id"],
        "sent": True,
        "message": None,
    }


def _row(attempt: AttemptRecord, started: float) -> list[Any]:
    ended, message = attempt.ended, attempt.message
    row = [
        _clean(attempt.provider, MAX_NAME),
        _clean(attempt.upstream_model, MAX_NAME),
        int((attempt.started - started) * 1e6),
        None if ended is None else int((ended - attempt.started) * 1e6),
        attempt.outcome,
        attempt.status,
        None if attempt.upstream_request_id is None else _clean(attempt.upstream_request_id, MAX_ID),
        attempt.sent,
    ]
    if message:
        # The client's texts that a provider repeats are not searched for, but what has the form of a key is masked.
        masked = mask_credentials(message.encode("utf-8", "replace")).decode()
        row.append(_clean(masked, MAX_MESSAGE))
    return row


def _shortened(rows: Sequence[Sequence[Any]]) -> bytes:
    """Return the text without messages, and without the first attempts if it is still too long."""
    rows = [row[:8] for row in rows]
    while len(text := orjson.dumps(rows)) > MAX_ATTEMPTS_TEXT:
        rows = rows[1:]
    return text


def _clean(text: str, longest: int) -> str:
    """Return a text without control characters and surrogates, and cut."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text.encode("utf-8", "replace").decode())
    return text[:longest]


def _shown_attempt(values: Sequence[Any]) -> dict[str, Any]:
    named: Mapping[str, Any] = dict(zip(_FIELDS, values, strict=False))
    return {
        name: value / 1000 if name in _SHOWN_TIMES and isinstance(value, int | float) else value
        for name, value in ((field, named.get(field)) for field in _FIELDS)
    }
