"""Prometheus durations (`90s`, `5m`, `1d`): read, divided, and written."""

import re
from fractions import Fraction

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_IN_BRACKETS = re.compile(r"\[(\d+[smhd])\]")
_OFFSET = re.compile(r"\boffset (\d+[smhd])\b")
_AS_SECONDS = re.compile(r"\$\{seconds:(\d+[smhd])\}")


def seconds(duration: str) -> int:
    """Return the seconds of a duration with one unit.

    Raises:
        ValueError: it is not a whole number with the unit s, m, h or d.
    """
    match = re.fullmatch(r"(\d+)([smhd])", duration)
    if match is None:
        raise ValueError(f"duration {duration!r}: write a whole number and one of s, m, h, d, such as 5m")
    return int(match[1]) * _SECONDS[match[2]]


def scaled(duration: str, scale: int) -> str:
    """Return the duration divided by `scale`, rounded up to a millisecond. With 1 the text stays as it is."""
    if scale == 1 or seconds(duration) == 0:
        return duration
    milliseconds = -(-seconds(duration) * 1000 // scale)
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def scaled_seconds(duration: str, scale: int) -> str:
    """Return the seconds of the divided duration, for use as a number in an expression."""
    exact = Fraction(seconds(duration), scale)
    return str(exact.numerator) if exact.denominator == 1 else f"{float(exact):.3f}"


def scaled_expression(expression: str, scale: int) -> str:
    """Divide each range `[5m]`, each `offset 5m` and each `${seconds:5m}` of an expression by `scale`."""
    text = _IN_BRACKETS.sub(lambda match: f"[{scaled(match[1], scale)}]", expression)
    text = _OFFSET.sub(lambda match: f"offset {scaled(match[1], scale)}", text)
    return _AS_SECONDS.sub(lambda match: scaled_seconds(match[1], scale), text)
