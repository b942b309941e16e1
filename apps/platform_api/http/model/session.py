"""The client's session: which requests are turns of one conversation, as far as a header says so.

The session keeps the turns on one route (platform_app/llm/policies/choice) and is kept in the usage record. Any text
that a client sends here is stored and shown, so a text with a key in it is refused, and one that may be a key is
replaced by its hash.
"""

from collections.abc import Mapping
from hashlib import sha256

from starlette.types import Scope

from platform_app.credential_forms import holds_credential, id_may_hold_credential
from platform_app.errors import InvalidRequest
from platform_app.ledger.events.usage_record import MAX_SESSION
from platform_app.observability import metrics

SESSION_HEADER = "X-Session-Id"
_OURS = SESSION_HEADER.lower().encode()
_CLIENTS = (b"x-claude-code-session-id", b"session-id")
"""The headers of Claude Code and of Codex."""
_HEADERS = (_OURS, *_CLIENTS)
_HASH_DIGITS = 32


def session_of(scope: Scope) -> str | None:
    """Return the session in a request's `X-Session-Id`, else in the header of Claude Code or Codex; None without one.

    Raises:
        InvalidRequest: `X-Session-Id` holds a key, or is not printable, or too long. Another client's header that is
            wrong in this way is ignored.
    """
    found: Mapping[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _HEADERS and value}
    if not found:
        return None
    ours = found.get(_OURS)
    value = next(found[name] for name in _HEADERS if name in found)
    if (problem := _problem(value)) is None:
        return _hashed(value) if id_may_hold_credential(value) else value.decode()
    if ours is None:
        return None
    raise InvalidRequest(f"{SESSION_HEADER}: {problem}.", param=SESSION_HEADER)


def _problem(value: bytes) -> str | None:
    if len(value) > MAX_SESSION or not value.isascii() or not value.decode().isprintable():
        return f"expected 1 to {MAX_SESSION} printable ASCII characters"
    if holds_credential(value):
        metrics.MISPLACED_CREDENTIALS.labels("session").inc()
        return "holds an API key, and this text is stored and shown; send an id of the conversation instead"
    return None


def _hashed(value: bytes) -> str:
    """Return a name of the session that shows nothing of it, the same for each of its turns."""
    return f"sha256:{sha256(value).hexdigest()[:_HASH_DIGITS]}"
