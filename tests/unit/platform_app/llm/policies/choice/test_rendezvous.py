from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.policies.choice.rendezvous import Rendezvous

KEYS = [number.to_bytes(16, "big") for number in range(6000)]
routes = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 1000), min_size=1, max_size=16)


@given(routes, st.binary(min_size=16, max_size=16))
def test_order_has_each_route_once_and_never_changes(weights: dict[str, int], key: bytes) -> None:
    order = Rendezvous(list(weights.items())).order(key)
    assert sorted(order) == list(range(len(weights)))
    assert Rendezvous(list(weights.items())).order(key) == order


@given(routes, st.binary(min_size=16, max_size=16), st.randoms())
def test_order_does_not_depend_on_the_config_files_order(weights: dict[str, int], key: bytes, random: object) -> None:
    names, shuffled = list(weights), list(reversed(weights))
    first = [names[index] for index in Rendezvous([(name, weights[name]) for name in names]).order(key)]
    second = [shuffled[index] for index in Rendezvous([(name, weights[name]) for name in shuffled]).order(key)]
    assert first == second


@given(routes, st.text(min_size=9, max_size=9), st.integers(1, 1000), st.binary(min_size=16, max_size=16))
def test_added_route_leaves_the_order_of_the_others(
    weights: dict[str, int], name: str, weight: int, key: bytes
) -> None:
    """So a session moves to the new route or stays."""
    before = Rendezvous(list(weights.items())).order(key)
    after = Rendezvous([*weights.items(), (name, weight)]).order(key)
    assert [index for index in after if index != len(weights)] == before


def test_sessions_are_spread_by_weight() -> None:
    rendezvous = Rendezvous([("a", 1), ("b", 2), ("c", 3)])
    first = Counter(rendezvous.order(key)[0] for key in KEYS)
    assert [round(first[index] / len(KEYS), 1) for index in range(3)] == [0.2, 0.3, 0.5]


def test_sessions_of_a_lost_route_are_spread_over_the_others() -> None:
    rendezvous = Rendezvous([("a", 1), ("b", 1), ("c", 1)])
    second = Counter(order[1] for key in KEYS if (order := rendezvous.order(key))[0] == 0)
    assert 0.9 < second[1] / second[2] < 1.1


def test_orders_of_known_keys_never_change() -> None:
    """A change of the hash would move every session at once to a route that has not cached its prompt."""
    rendezvous = Rendezvous([("a", 1), ("b", 2), ("c", 3)])
    orders = ["".join("abc"[index] for index in rendezvous.order(bytes([number]) * 16)) for number in range(8)]
    assert orders == ["bca", "bac", "cab", "abc", "cba", "cba", "bca", "bca"]


def test_lowest_hash_has_an_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zeros:
        def __init__(self, data: bytes, *, digest_size: int) -> None:
            self._size = digest_size

        def digest(self) -> bytes:
            return bytes(self._size)

    monkeypatch.setattr("platform_app.llm.policies.choice.rendezvous.blake2b", Zeros)
    assert Rendezvous([("a", 1), ("b", 2)]).order(b"k") == [1, 0]
