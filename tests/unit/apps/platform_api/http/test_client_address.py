"""The client's address: what trusted proxies wrote, and what a client forged."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.http.client_address import LOG_SECONDS, MAX_HOPS, client_address, parse_forwarded
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
        ("10.0.0.1", ["192.0.2.1,"], "192.0.2.1"),  # empty elements of a list are ignored (RFC 9110, 5.6.1)
        ("10.0.0.1", [", ,192.0.2.1, ,", ""], "192.0.2.1"),
        ("10.0.0.1", ["192.0.2.1, unknown"], "10.0.0.1"),  # what is left of it was not written by a trusted proxy
        ("10.0.0.1", ["192.0.2.1, _hidden, 10.0.0.2:80"], "10.0.0.2"),
        ("10.0.0.1", ["203.0.113.7:1, 192.0.2.1:51234, [2001:db8:aa::2]:80, 10.0.0.2:8080"], "192.0.2.1"),
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


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("192.0.2.1:443", "192.0.2.1"),
        ("192.0.2.1:_port", "192.0.2.1"),
        ('"192.0.2.1:443"', "192.0.2.1"),
        ('"192.0.2.1"', "192.0.2.1"),
        ("[192.0.2.1]:443", "192.0.2.1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:DB8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1", "2001:db8::1"),
        ("2001:db8:0:0:0:0:0:1:51234", "2001:db8::1"),  # a ninth group can only be a port
        ("2001:db8::1:443", "2001:db8::1:443"),  # a port without brackets is a group
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1:443", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:443", "192.0.2.1"),
        ("[::ffff:c000:201]:443", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%25eth0]:443", "fe80::1"),
        ("'192.0.2.1'", "192.0.2.1"),
        *(
            (entry, None)
            for entry in (
                "unknown", "_hidden", "_SEVKISEK:80", "", '"', '""', "[]", "[]:443", ":443", "192.0.2.1:",
                "192.0.2.1:http", "192.0.2.1:123456", "192.0.2.1:443:443", "[2001:db8::1", "2001:db8::1]",
                "[2001:db8::1]443", "[[::1]]", "192.0.2", "192.0.2.1.5", "192.0.2.256:80", "0300.0.2.1:80",
                "192.0.2.1%eth0", "%eth0", "fe80::1%" + "x" * 100,
                "for=192.0.2.1", "192.0.2.1;", "192.0.2.1 192.0.2.2", "localhost", "\u0661.2.3.4", "192.0.2.1:\u0664",
            )
        ),
    ],
)  # fmt: skip
def test_entry_is_read_in_every_form(entry: str, expected: str | None) -> None:
    parsed = parse_forwarded(entry)
    assert (None if parsed is None else str(parsed)) == expected


@given(
    number=st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)),
    port=st.one_of(st.none(), st.integers(0, 65535)),
    quotes=st.sampled_from(["", '"']),
)
def test_written_address_is_read_again(number: IPv4Address | IPv6Address, port: int | None, quotes: str) -> None:
    host = f"[{number}]" if number.version == 6 else str(number)
    entry = quotes + host + ("" if port is None else f":{port}") + quotes
    mapped = number.ipv4_mapped if isinstance(number, IPv6Address) else None
    assert parse_forwarded(entry) == (mapped or number)


@pytest.mark.parametrize(
    ("header", "value"), [(b"x-forwarded-for", b"203.0.113.66, unknown"), (b"forwarded", b"for=203.0.113.66")]
)
def test_unreadable_header_is_logged_once(header: bytes, value: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator learns that clients behind this proxy share its address; a client's text is not logged."""
    monkeypatch.setattr("apps.platform_api.http.client_address._Reported.at", -LOG_SECONDS)
    scope = {"type": "http", "client": ("10.0.0.1", 1), "headers": [(header, value)]}
    with structlog.testing.capture_logs() as logs:
        assert [client_address(scope, parse_networks(TRUSTED)) for _ in range(3)] == ["10.0.0.1"] * 3
    (line,) = logs
    assert (line["event"], line["proxy"]) == ("client_address_unreadable", "10.0.0.1")
    assert "203.0.113.66" not in str(line)


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


def test_address_with_long_zone_is_ignored() -> None:
    """`%` and any text may follow an IPv6 address; text that a client chose gets nowhere."""
    assert address("10.0.0.1", ["fe80::1%" + "x" * 1000]) == "10.0.0.1"


@given(made_up=st.lists(st.text(st.characters(max_codepoint=255), max_size=30), max_size=5))
def test_forged_entries_do_not_change_the_address(made_up: list[str]) -> None:
    assert address("10.0.0.1", [",".join([*made_up, "192.0.2.1"])]) == "192.0.2.1"
    assert address("192.0.2.9", made_up) == "192.0.2.9"
