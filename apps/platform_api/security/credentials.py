"""Read the API key that a client sends, and say what is wrong with how it is sent.

What is said here depends on the form of the headers alone, never on whether a key is good, and repeats nothing of them.
"""

import re
from typing import Any

from platform_app.errors import InvalidApiKey, MissingCredentials
from platform_app.observability import metrics

KEY_HEADERS = {b"x-api-key": "X-API-Key", b"api-key": "api-key"}
"""Headers that hold the key alone: Anthropic's clients send the first one, Azure's the second one."""
_AUTHORIZATION = b"authorization"
_BEARER = re.compile(rb"bearer +(\S+)", re.IGNORECASE)
_KNOWN_SCHEMES = frozenset(
    {"basic", "digest", "token", "key", "apikey", "api-key", "negotiate", "hmac", "aws4-hmac-sha256", "oauth", "jwt"}
)
"""Only these are repeated in a message: what stands in the place of a scheme may be a part of a key."""
_SEND = "Send the key as 'Authorization: Bearer <key>' or alone as 'X-API-Key: <key>'."


def credentials(scope: Any) -> str:
    """Return the key: from `Authorization: Bearer <key>`, `X-API-Key: <key>` or `api-key: <key>`.

    Raises:
        MissingCredentials: none of the headers is there.
        InvalidApiKey: a header has another form, is empty, or two of them hold different keys; the message says which.
    """
    found: dict[bytes, str] = {}  # by key, the header's name
    problem = None
    for name, value in scope["headers"]:
        if name == _AUTHORIZATION:
            match = _BEARER.fullmatch(value.strip())
            if match is None:
                problem = _wrong_authorization(value.strip())
            else:
                found.setdefault(match[1], "Authorization")
        elif name in KEY_HEADERS:
            if not value or b" " in value.strip():
                problem = _wrong_key_header(KEY_HEADERS[name], value.strip())
            else:
                found.setdefault(value, KEY_HEADERS[name])
    if problem is None and len(found) == 1:
        return next(iter(found)).decode("latin-1")
    if problem is None and not found:
        metrics.AUTH.labels("missing").inc()
        raise MissingCredentials
    metrics.AUTH.labels("malformed").inc()
    raise InvalidApiKey(f"{problem} {_SEND}" if problem else _different(list(found.values())))


def _wrong_authorization(value: bytes) -> str:
    """Also where a good key is in another header: the client means one of them, and which one cannot be told."""
    words = value.decode("latin-1").split()
    scheme = words[0].lower() if words else ""
    if not words:
        return "The header Authorization is empty: leave it out if the key is in another header."
    if scheme == "bearer":
        if len(words) == 1:
            return "The header Authorization holds 'Bearer' without a key behind it."
        twice = words[1].lower() == "bearer"
        return f"The header Authorization holds {'Bearer twice' if twice else 'more than one word behind Bearer'}."
    if scheme.startswith("bearer"):
        return "The header Authorization needs exactly 'Bearer' and a space before the key."
    if scheme in _KNOWN_SCHEMES and len(words) > 1:
        return f"The header Authorization has the scheme '{scheme}', which is not taken here: only Bearer is."
    return "The header Authorization does not begin with 'Bearer ': leave it out if the key is in another header."


def _wrong_key_header(name: str, value: bytes) -> str:
    if not value:
        return f"The header {name} is empty."
    return f"The header {name} takes the key alone, without 'Bearer' or spaces."


def _different(names: list[str]) -> str:
    if len(set(names)) == 1:
        return f"The header {names[0]} was sent more than once, with different keys. Send one key."
    shown = " and ".join(sorted(set(names), key=names.index))
    return (
        f"The headers {shown} hold different keys. Send one of them only: a client may fill Authorization with a "
        "placeholder by itself."
    )
