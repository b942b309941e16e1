"""A bounded cache of verified keys, in this process.

Entries are found by the whole HMAC-SHA-256 of the key, never by a part of the key: two keys cannot share an entry.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

from platform_app.auth.caller import Caller


@dataclass(frozen=True, slots=True)
class CachedKey:
    """The result of a verification. `caller` is None if the key was refused."""

    caller: Caller | None
    key_id: str
    not_after: datetime | None
    """When the key or its secret expires. The authenticator checks it on every use; the cache has no clock."""
    verified_at: float
    """Time of the lookup, on the monotonic clock."""


class KeyCache:
    """Evicts the least recently used entry once `size` is reached. Refused keys have a separate bound, so that a flood
    of invented keys cannot evict valid ones."""

    def __init__(self, size: int, refused_size: int = 10_000) -> None:
        self._accepted: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._refused: OrderedDict[bytes, CachedKey] = OrderedDict()
        self._size = size
        self._refused_size = refused_size
        self.generation = 0
        """Number of invalidations. A lookup that began before one must not store its result after it."""

    def __len__(self) -> int:
        return len(self._accepted) + len(self._refused)

    def get(self, digest: bytes) -> CachedKey | None:
        """Return the entry of this digest, however old it is."""
        entry = self._accepted.get(digest)
        if entry is not None:
            self._accepted.move_to_end(digest)
            return entry
        return self._refused.get(digest)

    def put(self, digest: bytes, entry: CachedKey) -> None:
        """Store an entry in place of an earlier one."""
        self._accepted.pop(digest, None)
        self._refused.pop(digest, None)
        entries, size = (self._refused, self._refused_size) if entry.caller is None else (self._accepted, self._size)
        entries[digest] = entry
        if len(entries) > size:
            entries.popitem(last=False)

    def forget(self, key_id: str) -> None:
        """Drop every entry of this key. It scans all entries, which is acceptable because keys change rarely."""
        self.generation += 1
        for entries in (self._accepted, self._refused):
            for digest in [digest for digest, entry in entries.items() if entry.key_id == key_id]:
                del entries[digest]

    def clear(self) -> None:
        """Drop all entries."""
        self.generation += 1
        self._accepted.clear()
        self._refused.clear()
