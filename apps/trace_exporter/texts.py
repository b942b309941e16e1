"""Texts of clients and providers, as spans show them: without what looks like a key, and cut."""

from platform_app.credential_forms import mask_credentials
from platform_app.observability.tracing.kept_request import MAX_TEXT


def shown(text: str | None, limit: int = MAX_TEXT) -> str | None:
    """Return the text with every credential masked, and cut; None for an empty one."""
    if not text:
        return None
    return mask_credentials(text.encode(errors="replace")).decode(errors="replace")[:limit]


def address(server: str) -> tuple[str, int | None]:
    """Return host and port of `host:port`; the port is None if there is none."""
    host, separator, port = server.rpartition(":")
    if separator and port.isdecimal() and len(port) <= 5 and not (host.startswith("[") and "]" not in host):
        return host.strip("[]"), int(port)
    return server.strip("[]"), None
