"""Options of `keys` that are more than a text."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeVar

from typer.core import TyperCommand

from apps.platform_cli.terminal.durations import duration, is_duration
from platform_app.auth.keys.records import UNSET, KeyStatus, Unset
from platform_app.errors import ValidationFailed

T = TypeVar("T")
AS_BEFORE: Final = "as before"
_NUMBER = re.compile(r"\d{1,10}(\.\d{1,6})?", re.ASCII)


def limits(pairs: list[str] | None) -> dict[str, float] | None:
    """Return the limits of `RULE=NUMBER` texts, by rule."""
    if not pairs:
        return None
    found: dict[str, float] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not _NUMBER.fullmatch(number):
            raise invalid(f"--limit {pair}: expected RULE=NUMBER, such as key-rpm=120 or key-daily-usd=2.50")
        if name in found:
            raise invalid(f"--limit {name}: given more than once; keep one")
        found[name] = float(number) if "." in number else int(number)
    return found


def expiry(days: float | None, span: timedelta | None) -> datetime | None:
    """Return the expiry that `--expires-in-days` or `--expires-in` names."""
    if days is not None and span is not None:
        raise invalid("--expires-in and --expires-in-days exclude each other")
    try:
        span = timedelta(days=days) if days is not None else span
        return None if span is None else datetime.now(UTC) + span
    except OverflowError:
        raise invalid("--expires-in-days: too large for a date; use --never-expires") from None


def grace_seconds(seconds: int | None, span: timedelta | None, default: int) -> int:
    """Return the grace period that `--grace-period-seconds` or `--grace-period` names."""
    if seconds is not None and span is not None:
        raise invalid("--grace-period and --grace-period-seconds exclude each other")
    if span is not None:
        return int(span.total_seconds())
    return default if seconds is None else seconds


class ExtendCommand(TyperCommand):
    """A command whose option `--extend` may be given without its value, which Typer has no way to declare."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--extend` its value if no duration follows it."""
        for index, (argument, after) in enumerate(zip(args, [*args[1:], ""], strict=True)):
            if argument == "--extend" and not is_duration(after):
                args[index] = f"--extend={AS_BEFORE}"
        return super().parse_args(ctx, args)


def extension(text: str | None) -> timedelta | Literal["as before"] | None:
    """Return what `--extend` names."""
    if text is None:
        return None
    return AS_BEFORE if text == AS_BEFORE else duration(text)


def either(flag: str, value: T | None, drop_flag: str, drop: bool) -> T | Unset | None:
    """Return the value of `flag`, None for `drop_flag`, or UNSET if neither is given."""
    if drop and value is not None:
        raise invalid(f"{flag} and {drop_flag} exclude each other")
    if drop:
        return None
    return UNSET if value is None else value


def status(text: str | None) -> KeyStatus | None:
    """Return the status that `--status` names, in any case."""
    match wanted := None if text is None else text.strip().lower():
        case None | "active" | "expired" | "revoked":
            return wanted
        case _:
            raise invalid("--status: expected active, expired or revoked")


def invalid(problem: str) -> ValidationFailed:
    """Return the error for options that do not fit."""
    return ValidationFailed("The command is not valid.", details=[problem])
