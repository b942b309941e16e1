"""Origins of web pages, as browsers send them in the Origin header."""

import re

_ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]{0,30}://(?:[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII
)
_DEFAULT_PORTS = ("http", ":80"), ("https", ":443")
ANY = "*"
MAX_ORIGINS = 100


def parse_origins(text: str) -> tuple[str, ...]:
    """Parse origins separated by commas; `*` alone means all origins.

    Raises:
        ValueError: names the entry that is not an origin.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if len(origins) > MAX_ORIGINS:
        raise ValueError(f"at most {MAX_ORIGINS} origins are accepted")
    for origin in origins:
        if origin == ANY:
            if len(origins) > 1:
                raise ValueError("'*' allows every origin: leave the others out, or leave '*' out")
        elif origin == "null":
            raise ValueError("'null' is the origin of every sandboxed page; it cannot be allowed")
        elif "*" in origin:
            raise ValueError(f"'{origin}' holds '*': each origin has to be written out")
        elif not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"'{origin}' is not an origin; expected https://app.example.com, in lower case, without a path"
            )
        elif any(origin.startswith(f"{scheme}:") and origin.endswith(port) for scheme, port in _DEFAULT_PORTS):
            raise ValueError(f"'{origin}' is an origin with the default port, which browsers leave out")
    return origins
