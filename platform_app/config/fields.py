"""Types of single values, shared by settings and the config file."""

import ipaddress
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.exc import ArgumentError


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// URL with a host")
    if not _port_is_one(parts):
        raise ValueError("expected a port from 1 to 65535 after the host")
    if not parts.path.isascii() or " " in value or not value.isprintable():
        raise ValueError("expected a URL without spaces, its path percent-encoded")
    if parts.username or parts.password:
        raise ValueError("expected a URL without credentials; put them into the secret store")
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without query or fragment")
    return value.rstrip("/")


def _port_is_one(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse networks in CIDR form, separated by commas. Raises ValueError with the entry that is not a network."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


def parses(parse: Callable[[str], object], url: str) -> bool:
    """Return whether the library that will use the URL can parse it. The library's message would show parts of the
    URL."""
    try:
        parse(url)
    except (ValueError, ArgumentError):
        return False
    return True


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
SECRET_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}(#[A-Za-z0-9_.-]{1,100})?$"  # noqa: S105 - a pattern
"""A path in the secret store and, after `#`, one field of that secret. The stores check it again and refuse `..`."""
SecretName = Annotated[str, StringConstraints(pattern=SECRET_NAME)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class ConfigModel(BaseModel):
    """Base of everything in the config file: unknown fields are problems, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def renamed(names: Mapping[str, str]) -> Callable[[Any], Any]:
    """Return a validator (mode "before") that accepts fields under their former names, `{old: new}`."""

    def take_former_names(value: Any) -> Any:
        if not isinstance(value, Mapping) or not names.keys() & value.keys():
            return value
        for old in names.keys() & value.keys():
            if names[old] in value:
                raise ValueError(f"'{old}' is the former name of '{names[old]}'; state only the latter")
        return {names.get(key, key): item for key, item in value.items()}

    return take_former_names


def what_is_wrong(item: Mapping[str, Any]) -> str:
    """Return the message of a validation error: pydantic's, or that of our validator."""
    return str(item["msg"]).removeprefix("Value error, ")
