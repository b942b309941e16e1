"""A prompt cache like those of providers: which beginning of a conversation a model has processed before."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import orjson

CACHED_MODEL = "cached-"
"""Models with this prefix have a prompt cache, each its own. Two names stand for two routes of a provider."""
MAX_PREFIXES = 20_000


class PrefixCache:
    """The beginnings of conversations by model. The one that was used least recently is forgotten first."""

    def __init__(self, size: int = MAX_PREFIXES) -> None:
        self._size = size
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def known_messages(self, model: str, messages: Sequence[Mapping[str, object]]) -> int:
        """Return how many of the first messages the model knows already, and remember all of them."""
        hashed = blake2b(model.encode(), digest_size=16)
        known, unbroken = 0, True
        for count, message in enumerate(messages, 1):
            hashed.update(orjson.dumps(message, option=orjson.OPT_SORT_KEYS))
            prefix = hashed.digest()
            unbroken = unbroken and prefix in self._known
            known = count if unbroken else known
            self._known[prefix] = None
            self._known.move_to_end(prefix)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return known


PREFIXES = PrefixCache()
"""The prompt caches of this simulator's models, in every format."""


def cached_tokens(model: str, messages: Sequence[Mapping[str, object]], counts: Sequence[int]) -> int | None:
    """Return the tokens of the messages that the model has in its prompt cache, and remember all of them; None for a
    model without a cache. `counts` are the tokens of each message."""
    if not model.startswith(CACHED_MODEL):
        return None
    return sum(counts[: PREFIXES.known_messages(model, messages)])
