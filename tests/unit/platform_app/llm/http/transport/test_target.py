"""Targets of requests, and that no URL or header can smuggle lines into a head."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_app.llm.http.transport.target import Address, header_lines, request_head, target_of


@pytest.mark.parametrize(
    ("url", "address", "path", "host"),
    [
        ("https://api.openai.com/v1/models", Address("api.openai.com", 443, True), b"/v1/models", b"api.openai.com"),
        ("http://10.0.0.1:8080", Address("10.0.0.1", 8080, False), b"/", b"10.0.0.1:8080"),
        ("https://h:443/a?b=c&d=%20", Address("h", 443, True), b"/a?b=c&d=%20", b"h:443"),
        ("http://[::1]:81/x", Address("::1", 81, False), b"/x", b"[::1]:81"),
        ("https://[2001:db8::1]/", Address("2001:db8::1", 443, True), b"/", b"[2001:db8::1]"),
        ("https://bücher.example/v1", Address("xn--bcher-kva.example", 443, True), b"/v1", b"xn--bcher-kva.example"),
        ("https://API.Example/V1", Address("api.example", 443, True), b"/V1", b"api.example"),
    ],
)
def test_url_becomes_target(url: str, address: Address, path: bytes, host: bytes) -> None:
    target = target_of(url)
    assert (target.address, target.path, target.host) == (address, path, host)


@pytest.mark.parametrize(
    "url",
    ["ftp://h/", "h/v1", "http://", "http://h:99999/", "http://h:x/", "http://h/a b", "http://h/ü", "http://h/\x7f",
     "http://[::1/", f"http://{'ü' * 70}.example/"],
)  # fmt: skip
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's words differ
        target_of(url)


def test_request_head_has_all_lines() -> None:
    target = target_of("http://h:1/p?q")
    assert request_head(b"POST", target, b"A: b\r\n", 12) == (
        b"POST /p?q HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 12\r\n\r\n"
    )
    assert request_head(b"GET", target, b"", None) == b"GET /p?q HTTP/1.1\r\nHost: h:1\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [("X", "a\r\nY: b"), ("X", "a\nb"), ("X", "a\rb"), ("X", "a\0"), ("X", "\x7f"), ("X: y\r\nZ", "a"), ("", "a"),
     ("a b", "c"), ("ü", "a")],
)  # fmt: skip
def test_invalid_header_error_omits_value(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        header_lines({name: f"secret{value}"})
    assert "secret" not in str(caught.value)


@given(st.text(), st.text())
def test_accepted_header_is_one_line(name: str, value: str) -> None:
    try:
        lines = header_lines({name: value})
    except ValueError:
        return
    assert lines.count(b"\n") == lines.count(b"\r") == 1
    assert lines.endswith(b"\r\n")
    assert lines.split(b":")[0] == name.encode()
