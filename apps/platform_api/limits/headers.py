"""Render the state of the rate limits as response headers.

Two families: draft-ietf-httpapi-ratelimit-headers-11 (`RateLimit-Policy`, `RateLimit`), and the `x-ratelimit-*`
names that OpenAI's API uses and its client libraries read.

Each header shows the tightest rule of every unit: the rule that denied, else the rule with the smallest remaining
share. The draft's fields list several policies if several units are limited. The draft defines requests and concurrent
requests as units (`qu`). Tokens are recognized by the policy's name, and costs are in millionths of a dollar.
"""

import math
from collections.abc import Sequence
from operator import itemgetter

from platform_app.rate_limit.limiter import RuleState
from platform_app.rate_limit.rule import Rule

_OPENAI_NAMES = {
    unit: tuple(f"x-ratelimit-{what}-{unit}" for what in ("limit", "remaining", "reset"))
    for unit in ("requests", "tokens")
}
_QUOTA_UNITS = {"concurrent": ';qu="concurrent-requests"', "cost_usd": ';qu="micro-usd"'}


def rate_limit_headers(states: Sequence[RuleState], denied_by: RuleState | None = None) -> dict[str, str]:
    """Return lower-case header names and values; empty if no rule applies. Shadow rules are not shown.

    Retry-After is not among them, because http/errors.py renders it for every error.
    """
    tightest = _tightest_by_unit(states, denied_by)
    if not tightest:
        return {}
    headers = {
        "ratelimit-policy": ", ".join([_policy(state.rule) for state in tightest]),
        "ratelimit": ", ".join(
            [f'"{state.rule.name}";r={state.remaining};t={math.ceil(state.reset_seconds)}' for state in tightest]
        ),
    }
    for state in tightest:
        names = _OPENAI_NAMES.get(state.rule.unit)
        if names is not None:
            headers[names[0]] = str(state.rule.limit)
            headers[names[1]] = str(state.remaining)
            headers[names[2]] = duration(state.reset_seconds)
    return headers


def duration(seconds: float) -> str:
    """Return a duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m0s`; rounded up to a millisecond."""
    milliseconds = math.ceil(seconds * 1000 - 1e-6)
    if milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, milliseconds = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{milliseconds / 1000:g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _tightest_by_unit(states: Sequence[RuleState], denied_by: RuleState | None) -> list[RuleState]:
    """Return one state per unit, the tightest of all first."""
    tightest, least = denied_by, -1.0 if denied_by is not None else math.inf
    for state in states:  # the common case, only requests are limited, at half the cost
        rule = state.rule
        if rule.unit != "requests" or rule.shadow:
            break
        room = state.remaining / rule.limit
        if room < least:
            tightest, least = state, room
    else:
        return [tightest] if tightest is not None else []
    found: dict[str, tuple[float, RuleState]] = {}
    for state in states:
        rule = state.rule
        if not rule.shadow:
            room = state.remaining / rule.limit
            known = found.get(rule.unit)
            if known is None or room < known[0]:
                found[rule.unit] = room, state
    if denied_by is not None:
        found[denied_by.rule.unit] = -1.0, denied_by
    if len(found) == 1:
        return [state for _, state in found.values()]
    return [state for _, state in sorted(found.values(), key=itemgetter(0))]


def _policy(rule: Rule) -> str:
    if rule.unit == "requests":
        return f'"{rule.name}";q={rule.limit};w={rule.window_seconds}'
    window = rule.calendar.seconds if rule.calendar is not None else rule.window_seconds
    span = f";w={window}" if window is not None else ""
    return f'"{rule.name}";q={rule.limit}{_QUOTA_UNITS.get(rule.unit, "")}{span}'
