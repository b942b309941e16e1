"""The client's address: what trusted proxies wrote, and what a client forged."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.http.client_address import MAX_HOPS, client_address
from platform_app.config import parse_networks

TRUSTED = "10.0.0.0/8,127.0.0.1/32,2001:db8:aa::/48"


def address(peer: str | None, forwarded: Sequence[bytes | str] = (), trusted: str = TRUSTED) -> str:
    values = [value.encode("latin-1") if isinstance(value, str) else value for value in forwarded]
    headers = [(b"host", b"gateway"), *((b"x-forwarded-for", value) for value in values)]
    scope = {"type": "http", "client": None if peer is None else (peer, 1234), "headers": headers}
    return client_address(scope, parse_networks(trusted))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.9", ["192.0.2.1"], "192.0.2.9"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["  192.0.2.1\t"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.7, 192.0.2.1"], "192.0.2.1"),  # the left one is the client's own writing
        ("10.0.0.1", ["203.0.113.7,192.0.2.1,10.0.0.2,10.0.0.3"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.7", "192.0.2.1"], "192.0.2.1"),  # two headers are one list
        ("10.0.0.1", ["192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["10.0.0.2, 10.0.0.3"], "10.0.0.2"),  # every address is trusted: the leftmost one is the client
        ("10.0.0.1", ["192.0.2.1, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["garbage, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1,"], "10.0.0.1"),
        ("10.0.0.1", ["192.0.2.1:443"], "10.0.0.1"),
        ("10.0.0.1", ["[2001:db8::1]"], "10.0.0.1"),
        ("10.0.0.1", ["2001:db8::1"], "2001:db8::1"),
        ("2001:db8:aa::1", ["192.0.2.1"], "192.0.2.1"),
        ("2001:db8:ab::1", ["192.0.2.1"], "2001:db8:ab::1"),
        ("10.0.0.1", [b"\xff\xfe"], "10.0.0.1"),
        ("10.0.0.1", ["0300.0.2.1"], "10.0.0.1"),  # octal, to some
        ("10.0.0.1", ["3221225985"], "10.0.0.1"),
        ("unix", ["192.0.2.1"], "unix"),
        # A dual-stack socket shows IPv4 peers as IPv4-mapped IPv6 addresses.
        ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::ffff:192.0.2.9", ["192.0.2.1"], "192.0.2.9"),
        ("10.0.0.1", ["192.0.2.1, ::ffff:10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
    ],
)
def test_address_behind_trusted_proxies(peer: str, forwarded: list[str], expected: str) -> None:
    assert address(peer, forwarded) == expected


def test_header_is_ignored_without_trusted_proxies() -> None:
    for peer in ("192.0.2.9", "10.0.0.1", "127.0.0.1"):
        assert address(peer, ["192.0.2.1"], trusted="") == peer


def test_unix_socket_has_no_address() -> None:
    assert address(None) == "unix"
    assert address(None, ["192.0.2.1"]) == "unix"


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("::ffff:192.0.2.9", "192.0.2.9"), ("2001:DB8::9", "2001:db8::9"), ("fe80::1%eth0", "fe80::1%eth0"), ("", "")],
)
def test_peer_address_is_normalized(peer: str, expected: str) -> None:
    assert address(peer) == address(peer, trusted="") == expected


def test_long_list_is_read_from_its_end() -> None:
    trusted = ["10.0.0.1"] * (MAX_HOPS + 10)
    assert address("10.0.0.1", [",".join(["192.0.2.1", *trusted])]) == "10.0.0.1"
    assert address("10.0.0.1", [",".join(["203.0.113.1"] * 10_000 + ["192.0.2.1"])]) == "192.0.2.1"


def test_address_with_zone_is_ignored() -> None:
    """`%` and any text may follow an IPv6 address; text that a client chose gets nowhere."""
    assert address("10.0.0.1", ["fe80::1%" + "x" * 1000]) == "10.0.0.1"


@given(made_up=st.lists(st.text(st.characters(max_codepoint=255), max_size=30), max_size=5))
def test_forged_entries_do_not_change_the_address(made_up: list[str]) -> None:
    assert address("10.0.0.1", [",".join([*made_up, "192.0.2.1"])]) == "192.0.2.1"
    assert address("192.0.2.9", made_up) == "192.0.2.9"
