"""How rules stand as response headers.

Two families: draft-ietf-httpapi-ratelimit-headers-11 (`RateLimit-Policy`, `RateLimit`), and the `x-ratelimit-*`
names that OpenAI's API uses and its client libraries read.

Each is told from the tightest rule of every unit: the rule that denied, else the one with the least room left. The
draft's fields list several policies where several units are limited. It knows requests and concurrent requests as units
(`qu`); tokens are told by the policy's name, and costs are in millionths of a dollar.
"""

import math
from collections.abc import Sequence

from platform_app.rate_limit.limiter import RuleState
from platform_app.rate_limit.rule import Rule

_OPENAI_UNITS = ("requests", "tokens")
_QUOTA_UNITS = {"concurrent": ';qu="concurrent-requests"', "cost_usd": ';qu="micro-usd"'}


def rate_limit_headers(states: Sequence[RuleState], denied_by: RuleState | None = None) -> dict[str, str]:
    """Lower-case header names and values; empty where no rule applies. Shadow rules are nobody's business.

    Retry-After is not among them: the answer gets it from the error, like every other one.
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
        unit = state.rule.unit
        if unit in _OPENAI_UNITS:
            headers[f"x-ratelimit-limit-{unit}"] = str(state.rule.limit)
            headers[f"x-ratelimit-remaining-{unit}"] = str(state.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = duration(state.reset_seconds)
    return headers


def duration(seconds: float) -> str:
    """A duration as OpenAI writes it: `12ms`, `1.5s`, `6m0s`, `2h0m0s`; rounded up to a millisecond."""
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
    """One state for each unit; the tightest of all comes first."""
    found: dict[str, RuleState] = {}
    for state in states:
        rule = state.rule
        if not rule.shadow:
            known = found.get(rule.unit)
            if known is None or _room(state) < _room(known):
                found[rule.unit] = state
    if denied_by is not None:
        found[denied_by.rule.unit] = denied_by
    if len(found) == 1:
        return list(found.values())
    return sorted(found.values(), key=lambda state: (state is not denied_by, _room(state)))


def _room(state: RuleState) -> float:
    return state.remaining / state.rule.limit


def _policy(rule: Rule) -> str:
    window = rule.calendar.seconds if rule.calendar is not None else rule.window_seconds
    span = f";w={window}" if window is not None else ""
    return f'"{rule.name}";q={rule.limit}{_QUOTA_UNITS.get(rule.unit, "")}{span}'
