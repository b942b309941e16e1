"""A limiter's decision as response headers.

Two families: draft-ietf-httpapi-ratelimit-headers-11 (`RateLimit-Policy`, `RateLimit`), and the `x-ratelimit-*`
names that OpenAI's API uses and its client libraries read.
"""

import math

from platform_app.rate_limit.limiter import Decision


def rate_limit_headers(decision: Decision) -> dict[str, str]:
    """Lower-case header names and values, from the tightest rule; empty where no rule applies.

    Retry-After is not among them: the answer gets it from the error, like every other one.
    """
    state = decision.tightest
    if state is None:
        return {}
    rule = state.rule
    return {
        "ratelimit-policy": f'"{rule.name}";q={rule.limit};w={rule.window_seconds}',
        "ratelimit": f'"{rule.name}";r={state.remaining};t={math.ceil(state.reset_seconds)}',
        "x-ratelimit-limit-requests": str(rule.limit),
        "x-ratelimit-remaining-requests": str(state.remaining),
        "x-ratelimit-reset-requests": duration(state.reset_seconds),
    }


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
