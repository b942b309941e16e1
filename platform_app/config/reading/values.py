"""Values, paths and suggestions as messages show them."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from platform_app.config.connections.url_parts import split_url
from platform_app.credential_forms import looks_like_key, mask_keys

MAX_SHOWN = 80
SHORTEST_PREFIX = 3
_SECRET = re.compile(r"(.*[_-])?(key|token|secret|password|passwd|credentials?|authorization)", re.IGNORECASE)

Path = tuple[str | int, ...]
"""Where a value is in the config file: keys and list indexes from the top."""


def path_text(path: Path) -> str:
    """Return a path as people write it: `models.gpt-4o.routes[0].weight`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{mask_keys(_one_line(part))}"
    return text


def shown(value: object, source: str | None = None) -> str:
    """Return a value for a message. A text that may be a key, and a URL's credentials and query, are not shown.
    `source` is the value as the file writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _shown_text(value)
    if isinstance(value, Mapping):
        return "a mapping" if value else "an empty mapping"
    if isinstance(value, Sequence):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else (source or str(value))[:MAX_SHOWN]


def may_be_secret(name: str) -> bool:
    """Return whether a field of this name may hold a secret, so that its value is not shown."""
    return _SECRET.fullmatch(name) is not None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to a misspelt one, or None."""
    by_form = {_form(choice): choice for choice in sorted(known, reverse=True)}
    form = _form(name)
    found = difflib.get_close_matches(form, by_form, 1, 0.7)
    if not found and len(form) > SHORTEST_PREFIX:
        found = [other for other in by_form if other.startswith(form)]
    return by_form[found[0]] if found else None


def _form(name: str) -> str:
    return name.lower().replace("-", "_")


def _shown_text(value: str) -> str:
    if not value:
        return "an empty text"
    if looks_like_key(value):
        return "a text that looks like a key and is not shown"
    # Also of a URL whose @ was typed in its fullwidth form.
    if "://" in value or "@" in unicodedata.normalize("NFKC", value):
        return _shown_url(value)
    text = mask_keys(_one_line(value))
    return f"'{text}'" if len(text) <= MAX_SHOWN else f"'{text[:MAX_SHOWN]}…' ({len(value)} characters)"


def _shown_url(value: str) -> str:
    """Return the scheme and the host. Every other part of a URL may be a secret."""
    parts = split_url(value)
    host = parts.hostname if parts else None
    if parts is None or not host or "@" in host or not value.isprintable() or " " in value:
        return "a URL that is not shown, because it may contain a password"
    rest = "…" if parts.username or parts.path.strip("/") or parts.query or parts.fragment else ""
    return f"'{parts.scheme}://{host}{'/' if rest else ''}{rest}'"


def _one_line(text: str) -> str:
    """Return the text with every character escaped that could end the message's line."""
    return text if text.isprintable() else text.encode("unicode_escape").decode()
