"""Types of single values, shared by settings and the config file."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints
from sqlalchemy.exc import ArgumentError

from platform_app.config.connections.url_parts import is_host_name, split_url
from platform_app.credential_forms import looks_like_key


def _http_url(value: str) -> str:
    parts = split_url(value)
    if parts is None or parts.port == 0:
        raise ValueError("expected an http:// or https:// URL with a valid host, and a port from 1 to 65535")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http:// or https:// URL with a host")
    if not is_host_name(parts.hostname):
        raise ValueError("expected a host name with 1 to 63 characters between two dots")
    if not parts.path.isascii() or " " in value or not value.isprintable():
        raise ValueError("expected a URL without spaces, its path percent-encoded")
    if parts.username or parts.password:
        raise ValueError("expected a URL without credentials; put them into the secret store")
    if parts.query or parts.fragment:
        raise ValueError("expected a URL without query or fragment")
    return value.rstrip("/")


def _name_and_no_key(value: str) -> str:
    if looks_like_key(value):
        raise ValueError(
            "looks like a key, not a name; put the key into the secret store and write its name here, such as "
            "OPENAI_API_KEY. Replace a key that others could read here"
        )
    return value


def _host_name(value: str) -> str:
    if not value.isprintable() or not value.isascii() or set(value) & set("/@ []") or value.count(":") == 1:
        raise ValueError("expected an address or a host name without a port, such as 0.0.0.0 or ::")
    return value


def _expanded(value: Path) -> Path:
    """Expand `~`, which only shells expand by themselves."""
    try:
        return value.expanduser()
    except RuntimeError:
        raise ValueError("expected a path whose ~ names a home directory that exists; write the path out") from None


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


HostName = Annotated[str, AfterValidator(_host_name)]
FilePath = Annotated[Path, AfterValidator(_expanded)]
HttpUrl = Annotated[str, AfterValidator(_http_url)]
Port = Annotated[int, Field(ge=1, le=65535)]
SECRET_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,199}(#[A-Za-z0-9_.-]{1,100})?$"  # noqa: S105 - a pattern
"""A path in the secret store and, after `#`, one field of that secret. The stores check it again and refuse `..`."""
SecretName = Annotated[str, StringConstraints(pattern=SECRET_NAME), AfterValidator(_name_and_no_key)]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}$")]
_WITH_STAR = r"[A-Za-z0-9._:/@-]{0,126}\*[A-Za-z0-9._:/@-]{0,126}"
NameOrWildcard = Annotated[
    str, StringConstraints(pattern=rf"^([A-Za-z0-9][A-Za-z0-9._:/@-]{{0,127}}|{_WITH_STAR})$", max_length=128)
]
"""The name of a model, or a wildcard with one `*`."""
OwnerName = Annotated[str, StringConstraints(pattern=r"^\S(.{0,198}\S)?$")]
RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
