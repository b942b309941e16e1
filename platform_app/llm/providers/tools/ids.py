"""Map the ids of tool calls to ids that Anthropic accepts, the same in a call and its result.

Anthropic requires 1 to 64 letters, digits, `_` and `-`, and each id only once in a conversation. OpenAI allows any
text: other providers' ids are `functions.f:0` (Moonshot), hundreds of characters long (Gemini's with signatures), or
repeat `call_0` in every turn. A valid id is kept, since it may be Anthropic's own. Any other is replaced by a hash. The
ids depend only on the messages before them, so they are the same in a later turn, and Anthropic's prompt cache works.
"""

import hashlib
import re
from collections import deque

_GOOD = re.compile(r"[a-zA-Z0-9_-]{1,64}", re.ASCII)
_LONG = 512
"""An id of more characters is hashed once, and its candidates are made of that hash: a client can send the ids that
they would be, so that there are as many candidates as calls, and each must not cost as much as the id is long."""


class ToolIds:
    """The ids of one request's tool calls, in the order of its messages."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._numbers: dict[str, int] = {}
        """By the client's id: the number of its next hash. Without it, each repetition would try all earlier ones."""
        self._open: dict[str, deque[tuple[str, str]]] = {}
        """By the client's id: our ids and the paths of the calls that have no result yet."""

    @property
    def any(self) -> bool:
        """Whether there was a tool call."""
        return bool(self._used)

    def call(self, given: str, where: str) -> str:
        """Return the id of a call. It is different for each call, even if the client repeats an id."""
        made, number = given, self._numbers.get(given, 0)
        short = given if len(given) <= _LONG else _digest(given)
        while made in self._used or not _GOOD.fullmatch(made):
            made = f"call_{_digest(f'{number}:{short}')}"
            number += 1
        if number:
            self._numbers[given] = number
        self._used.add(made)
        self._open.setdefault(given, deque()).append((made, where))
        return made

    def result(self, given: str) -> str | None:
        """Return the id of the first call that this result can belong to; None if no call waits for it."""
        waiting = self._open.get(given)
        if not waiting:
            return None
        made, _ = waiting.popleft()
        if not waiting:  # else each later turn would look at all calls of the conversation
            del self._open[given]
        return made

    def without_result(self) -> str | None:
        """Return the path of the first call without a result, if there is one."""
        return next((where for waiting in self._open.values() for _, where in waiting), None)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()
