"""The cache of verified keys: bounds, and forgetting."""

import pytest

from platform_app.auth.cache import CachedKey, KeyCache
from platform_app.auth.caller import Caller


def accepted(key_id: str) -> CachedKey:
    return CachedKey(Caller(key_id, "n", "o", "test", frozenset()), key_id, None, 0.0)


def refused(key_id: str) -> CachedKey:
    return CachedKey(None, key_id, None, 0.0)


def test_least_recently_used_entry_is_evicted() -> None:
    cache = KeyCache(size=2)
    cache.put(b"a", accepted("a"))
    cache.put(b"b", accepted("b"))
    cache.get(b"a")
    cache.put(b"c", accepted("c"))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert cache.get(b"c") is not None
    assert len(cache) == 2


def test_refused_keys_evict_no_valid_key() -> None:
    cache = KeyCache(size=3, refused_size=5)
    for name in (b"a", b"b", b"c"):
        cache.put(name, accepted(name.decode()))
    for number in range(1000):
        cache.put(b"bad%d" % number, refused(f"bad{number}"))
    assert len(cache) == 3 + 5
    assert all(cache.get(name) is not None for name in (b"a", b"b", b"c"))
    assert cache.get(b"bad999") is not None
    assert cache.get(b"bad994") is None


def test_valid_keys_evict_no_refused_key() -> None:
    cache = KeyCache(size=2, refused_size=2)
    cache.put(b"bad", refused("bad"))
    for number in range(10):
        cache.put(b"%d" % number, accepted(str(number)))
    assert cache.get(b"bad") is not None


@pytest.mark.parametrize(("before", "after"), [(accepted, refused), (refused, accepted)])
def test_entry_replaces_the_opposite_entry(before: type, after: type) -> None:
    cache = KeyCache(size=2)
    cache.put(b"a", before("a"))
    cache.put(b"a", after("a"))
    assert cache.get(b"a") == after("a")
    assert len(cache) == 1


def test_forget_drops_only_entries_of_its_key() -> None:
    cache = KeyCache(size=10)
    cache.put(b"1", accepted("a"))
    cache.put(b"2", accepted("a"))  # its second secret, during a rotation
    cache.put(b"3", refused("a"))
    cache.put(b"4", accepted("b"))
    cache.forget("a")
    assert [cache.get(digest) is not None for digest in (b"1", b"2", b"3", b"4")] == [False, False, False, True]


def test_clear_drops_all_entries() -> None:
    cache = KeyCache(size=10)
    cache.put(b"1", accepted("a"))
    cache.put(b"2", refused("b"))
    cache.clear()
    assert len(cache) == 0


def test_every_invalidation_increments_generation() -> None:
    cache = KeyCache(size=10)
    seen = [cache.generation]
    cache.put(b"1", accepted("a"))
    assert cache.generation == seen[0]
    cache.forget("somebody else")
    seen.append(cache.generation)
    cache.clear()
    seen.append(cache.generation)
    assert len(set(seen)) == 3


def test_no_two_digests_share_an_entry() -> None:
    cache = KeyCache(size=10)
    cache.put(b"x" * 32, accepted("a"))
    assert cache.get(b"x" * 31 + b"y") is None
    assert cache.get(b"x" * 16) is None
