"""The members of a spool's line, read one by one: what they give, PostgreSQL takes."""

import ipaddress
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

MAX_TEXT = 1024
"""Characters of any text. The longest one that requests can choose is the request id, of 128."""
MAX_MS = 1e12

Members = Mapping[str, Any]

_HEX_128 = re.compile(r"[0-9a-f]{32}")


class BadLineError(Exception):
    """A line that is not an event of a kind this version knows. The message names no value of the line."""


def text(members: Members, name: str, longest: int = MAX_TEXT) -> str:
    """A text of at most so many characters."""
    value = members.get(name)
    if not isinstance(value, str) or len(value) > longest or "\x00" in value:
        raise BadLineError(f"{name} is not a text")
    return value


def optional_text(members: Members, name: str) -> str | None:
    """A text, or None where the member is missing or null."""
    return None if members.get(name) is None else text(members, name)


def hex_id(members: Members, name: str) -> str:
    """32 lower-case hex digits."""
    value = members.get(name)
    if not isinstance(value, str) or _HEX_128.fullmatch(value) is None:
        raise BadLineError(f"{name} is not an id")
    return value


def count(members: Members, name: str, most: int) -> int:
    """A whole number from 0 to `most`; no boolean."""
    value = members.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise BadLineError(f"{name} is not a number up to {most}")
    return value


def flag(members: Members, name: str) -> bool:
    """A boolean."""
    value = members.get(name)
    if not isinstance(value, bool):
        raise BadLineError(f"{name} is neither true nor false")
    return value


def milliseconds(members: Members, name: str) -> float:
    """A duration."""
    value = members.get(name)
    if not isinstance(value, int | float) or not 0 <= value <= MAX_MS:
        raise BadLineError(f"{name} is not a duration")
    return float(value)


def time(members: Members, name: str) -> datetime:
    """A time with its zone, as UTC."""
    try:
        value = datetime.fromisoformat(text(members, name))
        # Without a zone it would be taken for local time.
        if value.tzinfo is None:
            raise BadLineError(f"{name} has no time zone")
        return value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadLineError(f"{name} is not a time") from None


def address(members: Members, name: str) -> str | None:
    """An address or a network, without the zone of an IPv6 address, for which PostgreSQL's inet has no room. What is
    neither is None."""
    found = (optional_text(members, name) or "").partition("%")[0]
    return found if _is_address(found) else None


@lru_cache(maxsize=4096)
def _is_address(candidate: str) -> bool:
    try:
        ipaddress.ip_interface(candidate)
    except ValueError:
        return False
    return True
