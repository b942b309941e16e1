"""How one value of an event is written to a line, checked when it is read, constrained in PostgreSQL and shown."""

# ruff: noqa: D102 - the methods are documented once, in Codec

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from platform_app.ledger.events.hops_and_attempts import shown_attempts, shown_hops

MAX_TEXT = 1024
"""Characters of any text. The longest text that a request can choose is the request id, of 128 characters."""
MAX_MS = 1e12

N = TypeVar("N", int, float)

_HEX_128 = re.compile(r"[0-9a-f]{32}")


class BadLineError(Exception):
    """A line of the spool that holds no event of a kind this version knows. The message contains no value of it."""


class Codec:
    """How the values of one field are handled. None is handled by the caller (`Columns`)."""

    shown_as = ""
    """The field's name in reports, if it differs from the column's."""

    def source(self, value: str) -> str:
        """Return Python source for the value that is written; `value` is the source of the event's value.

        The result must be a value that orjson writes and that the column accepts, whatever the event holds.
        """
        return value

    def read(self, name: str, value: object) -> Any:
        """Return the event's value for a value from a line. Raises BadLineError, which names the field `name`."""
        raise NotImplementedError

    def condition(self, column: str) -> str | None:
        """Return a SQL condition for what the column's type accepts and `read` does not; None if there is nothing."""
        return None

    def show(self, value: Any) -> Any:
        """Return the column's value, which is not null, as JSON-ready data for a report."""
        return value


@dataclass(frozen=True)
class Text(Codec):
    """A text, which is cut to `longest` characters when it is written."""

    longest: int
    longest_read: int = MAX_TEXT

    def source(self, value: str) -> str:
        return f"{value}[:{self.longest}]"

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or len(value) > self.longest_read or "\x00" in value:
            raise BadLineError(f"{name} is not a text")
        return value


@dataclass(frozen=True)
class OneOf(Codec):
    """One of a few texts, which the platform itself chooses."""

    allowed: tuple[str, ...]

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or value not in self.allowed:
            raise BadLineError(f"{name} is not one of {', '.join(self.allowed)}")
        return value


class HexId(Codec):
    """32 lower-case hex digits; a `uuid` in PostgreSQL."""

    def read(self, name: str, value: object) -> str:
        if not isinstance(value, str) or _HEX_128.fullmatch(value) is None:
            raise BadLineError(f"{name} is not an id")
        return value

    def show(self, value: Any) -> str:
        return str(value.hex)


class Moment(Codec):
    """A time with a time zone, in UTC."""

    def source(self, value: str) -> str:
        # The day of a line is read from its text (shipping/batch.py), so it must be the day in UTC.
        return f"v if (v := {value}).tzinfo is UTC else v.astimezone(UTC)"

    def read(self, name: str, value: object) -> datetime:
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else None
            if moment is None or moment.tzinfo is None:
                raise BadLineError(f"{name} is not a time with a time zone")
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            raise BadLineError(f"{name} is not a time") from None

    def show(self, value: Any) -> str:
        return str(value.isoformat())


class Flag(Codec):
    """A boolean."""

    def read(self, name: str, value: object) -> bool:
        if not isinstance(value, bool):
            raise BadLineError(f"{name} is neither true nor false")
        return value


@dataclass(frozen=True)
class Count(Codec):
    """A whole number from 0 to `most`. A number outside of that is written as the nearest bound."""

    most: int

    def source(self, value: str) -> str:
        return f"v if 0 <= (v := {value}) <= {self.most} else within(v, {self.most})"

    def read(self, name: str, value: object) -> int:
        if type(value) is not int or not 0 <= value <= self.most:  # a boolean is an int too
            raise BadLineError(f"{name} is not a number up to {self.most}")
        return value

    def condition(self, column: str) -> str:
        return f"{column} BETWEEN 0 AND {self.most}"


@dataclass(frozen=True)
class Microdollars(Count):
    """Millionths of a US dollar, shown as an exact decimal text."""

    shown_as: str = "cost_usd"

    def show(self, value: int) -> str:
        return dollars(value)


class Milliseconds(Codec):
    """A duration, which is shown to the microsecond."""

    def source(self, value: str) -> str:
        return f"v if 0 <= (v := {value}) <= {MAX_MS!r} else within(v, {MAX_MS!r})"

    def read(self, name: str, value: object) -> float:
        if not isinstance(value, int | float) or not 0 <= value <= MAX_MS:
            raise BadLineError(f"{name} is not a duration")
        return float(value)

    def condition(self, column: str) -> str:
        return f"{column} BETWEEN 0 AND {MAX_MS!r}"

    def show(self, value: float) -> float:
        return round(value, 3)


class Address(Codec):
    """An IP address, or a network of several. Anything else, such as `unix`, is written as null."""

    def source(self, value: str) -> str:
        return f"inet({value})"

    def read(self, name: str, value: object) -> str | None:
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            raise BadLineError(f"{name} is not a text")
        return inet(value)

    def show(self, value: Any) -> str:
        return str(value)


@dataclass(frozen=True)
class JsonObject(Codec):
    """The text of a JSON object. Anything else is left out, since the record is worth more than this field."""

    longest: int

    def source(self, value: str) -> str:
        # PostgreSQL's json refuses some escapes; none is written (see also columns.py).
        return f"""v if "\\\\" not in (v := {value}) else None"""

    def read(self, name: str, value: object) -> str | None:
        if not isinstance(value, str) or len(value) > self.longest or "\\" in value:
            return None
        try:
            return value if isinstance(orjson.loads(value), dict) else None
        except orjson.JSONDecodeError:
            return None


@dataclass(frozen=True)
class Hops(Codec):
    """The hops of a request (hops_and_attempts.py)."""

    longest: int

    def source(self, value: str) -> str:
        return f"{value}[:{self.longest}]"

    def read(self, name: str, value: object) -> str:
        return Text(self.longest, self.longest).read(name, value)

    def show(self, value: str) -> list[dict[str, Any]]:
        return shown_hops(value)


@dataclass(frozen=True)
class Attempts(Codec):
    """The attempts of a request as the text of a JSON array (hops_and_attempts.py). Anything else is left out, since
    the decision is worth more than this field."""

    longest: int
    """Bytes."""

    def read(self, name: str, value: object) -> str | None:
        if not isinstance(value, str) or len(value.encode("utf-8", "replace")) > self.longest:
            return None
        try:
            return value if isinstance(orjson.loads(value), list) else None
        except orjson.JSONDecodeError:
            return None

    def show(self, value: Any) -> list[dict[str, Any]]:
        return shown_attempts(value)


@lru_cache(maxsize=4096)
def inet(text: str) -> str | None:
    """Return an address or network as PostgreSQL's `inet` accepts it; None if the text is neither.

    The zone of an IPv6 address is removed, because `inet` has no room for it.
    """
    text = text.partition("%")[0]
    try:
        return str(ipaddress.ip_interface(text) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        return None


def within(value: N, most: N) -> N:
    """Return the nearest number from 0 to `most`; 0 for NaN."""
    return type(most)(min(max(0, value), most))


def dollars(microusd: int) -> str:
    """Return US dollars as an exact decimal text; a float would not add up."""
    return f"{microusd // 1_000_000}.{microusd % 1_000_000:06d}"
