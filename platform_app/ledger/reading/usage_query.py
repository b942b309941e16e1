"""The parameters of a usage query, and what is wrong with them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from platform_app.errors import ValidationFailed

GroupBy = Literal["day", "key", "owner", "model", "provider"]
FIELDS: Mapping[GroupBy, str] = {
    "day": "day",
    "key": "key_id",
    "owner": "owner",
    "model": "model",
    "provider": "provider",
}
"""The name of a group in the response and in the table."""
DEFAULT_GROUPS: Sequence[GroupBy] = ("day", "model")
DEFAULT_DAYS = 30
MAX_DAYS = 3660
"""The longest period; the longest retention has 3650 days."""
MAX_TEXT = 256
_YEARS = range(2000, 2201)


@dataclass(frozen=True, slots=True)
class UsageFilter:
    """Whose usage, and when. Days are UTC days; None: any, and for the days the last thirty."""

    since: date | None = None
    """The first day."""
    until: date | None = None
    """The day after the last one."""
    key_id: str | None = None
    owner: str | None = None
    model: str | None = None
    """A public name."""
    provider: str | None = None
    session: str | None = None
    """Only for single records: totals have no sessions."""

    def texts(self) -> Mapping[str, str]:
        """The filters on columns of that name."""
        named = {
            "key_id": self.key_id,
            "owner": self.owner,
            "model": self.model,
            "provider": self.provider,
            "session": self.session,
        }
        return {name: value for name, value in named.items() if value is not None}

    def period(self, today: date | None = None) -> tuple[date, date]:
        """The first day and the day after the last one. Without `until` today is the last; without `since` there are
        thirty.

        Raises:
            ValidationFailed: naming every problem, of the texts too.
        """
        problems = [
            f"{name}: at most {MAX_TEXT} printable characters are allowed"
            for name, value in self.texts().items()
            if len(value) > MAX_TEXT or not value.isprintable()
        ]
        years = {"since": self.since, "until": self.until}
        far = [
            f"{name}: a day between {_YEARS[0]}-01-01 and {_YEARS[-1]}-12-31 is needed"
            for name, day in years.items()
            if day is not None and day.year not in _YEARS
        ]
        if problems or far:
            raise ValidationFailed("The request is not valid.", details=problems + far)
        until = self.until or (today or datetime.now(UTC).date()) + timedelta(days=1)
        since = self.since or until - timedelta(days=DEFAULT_DAYS)
        if since >= until:
            raise _invalid(f"since: must be before until, which is {until}, and is {since}")
        if until - since > timedelta(days=MAX_DAYS):
            raise _invalid(f"since: at most {MAX_DAYS} days before until are allowed")
        return since, until


def check_groups(group_by: Sequence[str]) -> Sequence[GroupBy]:
    """The groups, each once.

    Raises:
        ValidationFailed: there is none, or one that does not exist.
    """
    known = [name for name in FIELDS if name in group_by]
    if unknown := sorted(set(group_by) - set(known)):
        raise _invalid(f"group_by: {', '.join(map(repr, unknown))} is none of {', '.join(FIELDS)}")
    if not known:
        raise _invalid(f"group_by: at least one of {', '.join(FIELDS)} is needed")
    return [name for name in dict.fromkeys(group_by) if name in FIELDS]  # type: ignore[misc]  # checked above


def _invalid(problem: str) -> ValidationFailed:
    return ValidationFailed("The request is not valid.", details=[problem])
