"""The ids of tool calls as Anthropic takes them, alike in a call and its result.

Anthropic wants 1 to 64 letters, digits, `_` and `-`, each id once in a conversation. OpenAI wants any text: other
providers' ids are `functions.f:0` (Moonshot), hundreds of characters long (Gemini's with signatures), or begin with the
same `call_0` in every turn. An id that is good is kept: it may be Anthropic's own. Any other is replaced by a hash. The
ids of a conversation depend only on what stood before them, so a later turn's are the same, and the cache holds.
"""

import hashlib
import re

_GOOD = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)


class ToolIds:
    """The ids of one request's messages, in their order."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._open: dict[str, list[tuple[str, str]]] = {}
        """By the client's id, our ids and the places of calls that have no result yet."""

    @property
    def any(self) -> bool:
        """Whether there was a call."""
        return bool(self._used)

    def call(self, given: str, where: str) -> str:
        """Return the id of a call; another one for each call, also where the client repeats an id."""
        made, number = given, 0
        while made in self._used or not _GOOD.fullmatch(made):
            made = _hashed(given, number)
            number += 1
        self._used.add(made)
        self._open.setdefault(given, []).append((made, where))
        return made

    def result(self, given: str) -> str | None:
        """Return the id of the call that a result belongs to: of several the first. None where no call waits for it."""
        waiting = self._open.get(given)
        return waiting.pop(0)[0] if waiting else None

    def without_result(self) -> str | None:
        """The place of the first call that has no result."""
        return next((where for waiting in self._open.values() for _, where in waiting), None)


def _hashed(given: str, number: int) -> str:
    text = f"{number}:{given}".encode(errors="surrogatepass")
    return f"call_{hashlib.blake2b(text, digest_size=16).hexdigest()}"
