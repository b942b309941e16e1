"""A bounded, in-process cache of verified keys, by the full digest of the key.

Keyed on the whole HMAC-SHA-256, never on a part of the key: two keys cannot share an entry.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from platform_app.auth.caller import Caller


@dataclass(frozen=True, slots=True)
class CachedKey:
    """A verification's outcome. `caller` is None where the key was refused (a negative entry)."""

    caller: Caller | None
    key_id: str
    not_after: datetime | None
    """When the key or this secret of it ends; checked on every use, since the cache does not know the time."""
    verified_at: float
    """On the monotonic clock."""


class KeyCache:
    """Least recently used goes first once `size` is reached. Refused keys have a bound of their own, so that
    a flood of made-up keys cannot push out the good ones."""

    def __init__(self, size: int, refused_size: int = 10_000) -> None:
        self._accepted: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._refused: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._size = size
        self._refused_size = refused_size
        self.generation = 0
        """Counts invalidations: a lookup that began before one must not store its outcome after it."""

    def __len__(self) -> int:
        return len(self._accepted) + len(self._refused)

    def get(self, digest: bytes) -> CachedKey | None:
        """What is known of this digest, however old."""
        entry = self._accepted.get(digest)
        if entry is not None:
            self._accepted.move_to_end(digest)
            return entry
        return self._refused.get(digest)

    def put(self, digest: bytes, entry: CachedKey) -> None:
        """Remember an outcome in place of any earlier one."""
        self._accepted.pop(digest, None)
        self._refused.pop(digest, None)
        entries, size = (self._refused, self._refused_size) if entry.caller is None else (self._accepted, self._size)
        entries[digest] = entry
        if len(entries) > size:
            entries.popitem(last=False)

    def forget(self, key_id: str) -> None:
        """Drop every entry of this key; a scan, since it happens only when a key is changed."""
        self.generation += 1
        for entries in (self._accepted, self._refused):
            for digest in [digest for digest, entry in entries.items() if entry.key_id == key_id]:
                del entries[digest]

    def clear(self) -> None:
        """Drop everything."""
        self.generation += 1
        self._accepted.clear()
        self._refused.clear()
