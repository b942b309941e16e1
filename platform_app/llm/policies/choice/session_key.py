"""Identify the session of a call by the client's name of it, else by the beginning of the conversation.

The key decides only which route is tried first. It contains the owner of the API key, so a client cannot share or steer
the routes of another owner's sessions. It is a hash: no text of the request is stored.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

EDGE_CHARACTERS = 1024
"""Characters that are hashed from each end of a text."""
MAX_TEXTS = 32
"""Texts that are hashed. More do not distinguish sessions better."""
MAX_MESSAGES = 8
"""Messages that are searched for the first one of the user."""
MAX_DEPTH = 4

_CHANGING = frozenset({"cache_control", "id", "status", "type", "role", "name", "detail", "annotations", "logprobs"})
"""Fields of a message or part that differ between the turns of one session, or say nothing about it. Clients move
`cache_control` to the end of the conversation with each turn."""


def session_key(owner: str, session: str | None, body: Mapping[str, Any], *, generates: bool = True) -> bytes | None:
    """Return a key of 16 bytes that the turns of one session share; None if nothing identifies a session.

    Args:
        owner: the owner of the API key.
        session: the client's name of its session, from a header.
        body: the request in any of the three formats.
        generates: whether the request is a chat. Other requests have only the sessions that the client names.
    """
    if session is None and not generates:
        return None
    hashed = blake2b(b"%d:%b" % (len(owner), owner.encode("utf-8", "replace")), digest_size=16)
    if session is not None:
        hashed.update(b"header:" + session.encode("utf-8", "replace"))
        return hashed.digest()
    named = body.get("prompt_cache_key")
    if isinstance(named, str) and named:
        hashed.update(b"field:")
        _update(hashed, named)
        return hashed.digest()
    hashed.update(b"content:")
    left = MAX_TEXTS
    for text in _beginning(body):
        _update(hashed, text)
        left -= 1
        if not left:
            break
    return None if left == MAX_TEXTS else hashed.digest()


def _update(hashed: blake2b, text: str) -> None:
    """Hash both ends of a text, and its length: long prompts of one client often begin with the same instructions."""
    length = len(text)
    if length > 2 * EDGE_CHARACTERS:
        text = text[:EDGE_CHARACTERS] + text[-EDGE_CHARACTERS:]
    hashed.update(b"%d:%b" % (length, text.encode("utf-8", "replace")))


def _beginning(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield the texts of the instructions, and of the messages up to the first one of the user."""
    for name in ("system", "instructions"):  # Messages, Responses
        if (value := body.get(name)) is not None:
            yield from _texts(value, 0)
    messages = body.get("messages")
    if messages is None:
        messages = body.get("input")
    if isinstance(messages, str) and messages:
        yield messages
    if not isinstance(messages, list):
        return
    for message in messages[:MAX_MESSAGES]:
        if not isinstance(message, dict):
            continue
        yield from _texts(message.get("content"), 0)
        if message.get("role") == "user":
            return


def _texts(value: object, depth: int) -> Iterator[str]:
    """Yield the texts in a message's content. A text and a list with one text part yield the same, since clients change
    between the two."""
    if isinstance(value, str):
        if value:
            yield value
    elif depth == MAX_DEPTH:
        return
    elif isinstance(value, list):
        for item in value[:MAX_TEXTS]:
            yield from _texts(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name not in _CHANGING:
                yield from _texts(item, depth + 1)
