"""Heads are read as RFC 9112 says, or refused; nothing lies in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.platform_api.server.head import (
    MAX_CONTENT_LENGTH_DIGITS,
    MAX_METHOD,
    RequestHead,
    head_too_large,
    parse_head,
    refuse_early,
)
from apps.platform_api.server.refusal import Reason, RequestRefusedError

HOST = b"Host: gateway"


def read(*lines: bytes, request: bytes = b"GET / HTTP/1.1", host: bytes | None = HOST) -> RequestHead:
    fields = [host, *lines] if host is not None else list(lines)
    return parse_head(b"\r\n".join([request, *fields]), 100)


def refused(*lines: bytes, request: bytes = b"GET / HTTP/1.1", host: bytes | None = HOST) -> tuple[int, Reason]:
    with pytest.raises(RequestRefusedError) as caught:
        read(*lines, request=request, host=host)
    return caught.value.refusal.status, caught.value.refusal.reason


def test_plain_request_is_read_whole() -> None:
    head = read(b"X-One:  a \t", b"x-ONE:b", b"Empty:", request=b"POST /v1/x%20y?a=b&c HTTP/1.1")
    assert (head.method, head.path, head.raw_path, head.query) == ("POST", "/v1/x y", b"/v1/x%20y", b"a=b&c")
    assert head.headers == [(b"host", b"gateway"), (b"x-one", b"a"), (b"x-one", b"b"), (b"empty", b"")]
    assert (head.version, head.keep_alive) == ("1.1", True)
    assert (head.content_length, head.chunked, head.expects_continue) == (0, False, False)


def test_longest_method_and_length_pass() -> None:
    method, length = b"X" * MAX_METHOD, b"9" * MAX_CONTENT_LENGTH_DIGITS
    head = read(b"Content-Length: " + length, request=method + b" / HTTP/1.1")
    assert (head.method, head.content_length) == ("X" * 32, 10**18 - 1)


def test_options_of_the_whole_server_pass() -> None:
    assert read(request=b"OPTIONS * HTTP/1.1").path == "*"


@pytest.mark.parametrize(
    ("request_line", "expected"),
    [
        (b"GET /", (505, Reason.HTTP_VERSION)),
        (b"GET / HTTP/0.9", (505, Reason.HTTP_VERSION)),
        (b"GET / HTTP/2.0", (505, Reason.HTTP_VERSION)),
        (b"PRI * HTTP/2.0", (505, Reason.HTTP_VERSION)),
        (b"GET / HTTP/1.2", (505, Reason.HTTP_VERSION)),
        (b"GET / HTTP/11", (505, Reason.HTTP_VERSION)),
        (b"GET / http/1.1", (400, Reason.REQUEST_LINE)),
        (b"GET  / HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b" GET / HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"GET / HTTP/1.1 ", (400, Reason.REQUEST_LINE)),
        (b"GET\t/ HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"G\x00T / HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"GET /\xe9 HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"X" * 33 + b" / HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"", (400, Reason.REQUEST_LINE)),
        (b"GET x HTTP/1.1", (400, Reason.TARGET)),
        (b"GET * HTTP/1.1", (400, Reason.TARGET)),
        (b"OPTIONS x HTTP/1.1", (400, Reason.TARGET)),
        (b"\r\nGET / HTTP/1.1", (400, Reason.REQUEST_LINE)),
        (b"GET / HTTP/1.1\r", (400, Reason.REQUEST_LINE)),
        (b"GET / HTTP/1.1\n", (400, Reason.REQUEST_LINE)),
        (b"GET /a#b HTTP/1.1", (400, Reason.TARGET)),
        (b"GET /?a#b HTTP/1.1", (400, Reason.TARGET)),
        (b"GET /%zz HTTP/1.1", (400, Reason.TARGET)),
        (b"GET /% HTTP/1.1", (400, Reason.TARGET)),
        (b"GET ftp://gateway/ HTTP/1.1", (400, Reason.TARGET)),
        (b"GET http:///x HTTP/1.1", (400, Reason.TARGET)),
        (b"GET http://user@gateway/ HTTP/1.1", (400, Reason.TARGET)),
        (b"GET http://other/ HTTP/1.1", (400, Reason.HOST)),
        (b"CONNECT gateway:443 HTTP/1.1", (405, Reason.METHOD)),
        (b"CONNECT /livez HTTP/1.1", (405, Reason.METHOD)),
        (b"CONNECT * HTTP/1.1", (405, Reason.METHOD)),
        (b"GET http://[1]/ HTTP/1.1", (400, Reason.TARGET)),
        (b"GET http://gateway:65536/ HTTP/1.1", (400, Reason.TARGET)),
    ],
)
def test_malformed_request_line_is_refused(request_line: bytes, expected: tuple[int, Reason]) -> None:
    assert refused(request=request_line) == expected


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/v1%2fplatform%2Fapi-keys", "/v1%2fplatform%2Fapi-keys"),
        (b"/v1/models/org%2Fmodel%20x", "/v1/models/org%2Fmodel x"),
        (b"/%252F", "/%2F"),
        (b"//livez", "//livez"),
        (b"/v1/../livez", "/v1/../livez"),
        (b"http://gateway/x?y", "/x"),
        (b"HTTP://GATEWAY", "/"),
        (b"http://gateway?y", "/"),
    ],
)
def test_paths_keep_encoded_slashes(target: bytes, path: str) -> None:
    assert read(request=b"GET %b HTTP/1.1" % target).path == path


@pytest.mark.parametrize(
    "line",
    [
        b" folded: x", b"X: a\r\n b", b"X: a\r\n\tb", b"X : a", b"X\t: a", b": a", b"X", b"X y: a",
        b"X: a\x00b", b"X: a\x0bb", b"X: a\nY: b", b"X: a\rY: b", b"X\x00: a", b"X\xff: a", b"X: a\x7f", b"\r\nX: a",
        b"X(: a", b"\xef\xbb\xbfX: a",
    ],
)  # fmt: skip
def test_malformed_field_is_refused(line: bytes) -> None:
    assert refused(line) == (400, Reason.HEADER_FIELD)


def test_obsolete_text_in_values_is_kept() -> None:
    assert read(b"X: \xe9\xff").headers[-1] == (b"x", b"\xe9\xff")


@pytest.mark.parametrize(
    "hosts",
    [
        [], [b"Host: a", b"Host: a"], [b"Host:"], [b"Host: a b"], [b"Host: a/b"], [b"Host: a@b"], [b"Host: a:b"],
        [b"Host: a:123456"], [b"Host: [::1"], [b"Host: a, b"], [b"Host: a%"], [b"Host: a%zz"], [b"Host: %0"],
        [b"Host: [.]"], [b"Host: [:]"], [b"Host: [::::]"], [b"Host: [1]"], [b"Host: [1.2.3.4]"], [b"Host: [fffff::1]"],
        [b"Host: []"], [b"Host: [::1]x"], [b"Host: [1:2:3:4:5:6:7:8:9]"], [b"Host: [::1.2.3.256]"],
        [b"Host: a:65536"], [b"Host: a:99999"], [b"Host: [::1]:65536"], [b"Host: :80"],
    ],
)  # fmt: skip
def test_host_is_needed_exactly_once(hosts: list[bytes]) -> None:
    assert refused(*hosts, host=None) == (400, Reason.HOST)


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"a:80",
        b"a:",
        b"[::1]:80",
        b"[::]",
        b"[::ffff:1.2.3.4]:65535",
        b"a:00080",
        b"a%2Db",
        b"192.0.2.1",
        b"my_service:8100",
        b"xn--a",
    ],
)
def test_common_hosts_pass(host: bytes) -> None:
    assert read(b"Host: " + host, host=None).headers == [(b"host", host)]


def test_http_1_0_needs_no_host_and_closes() -> None:
    head = read(request=b"GET / HTTP/1.0", host=None)
    assert (head.version, head.keep_alive) == ("1.0", False)
    assert refused(b"Host: a", b"Host: b", request=b"GET / HTTP/1.0", host=None) == (400, Reason.HOST)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 1", b"Content-Length: 1"], [b"Content-Length: 1, 1"], [b"Content-Length: +1"],
        [b"Content-Length: -1"], [b"Content-Length: 0x1"], [b"Content-Length: 1 1"], [b"Content-Length:"],
        [b"Content-Length: 1_0"], [b"Content-Length: " + b"9" * 19], [b"Content-Length: \xb2"],
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding: chunked", b"Content-Length: 0"],
    ],
)  # fmt: skip
def test_length_declared_in_two_ways_is_refused(lines: list[bytes]) -> None:
    assert refused(*lines) == (400, Reason.BODY_LENGTH)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Transfer-Encoding: gzip, chunked"], [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], [b"Transfer-Encoding:"],
        [b"Transfer-Encoding: identity"], [b"Transfer-Encoding: chunked;q=1"],
    ],
)  # fmt: skip
def test_other_transfer_codings_are_refused(lines: list[bytes]) -> None:
    assert refused(*lines) == (400, Reason.TRANSFER_ENCODING)


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    assert refused(b"Transfer-Encoding: chunked", request=b"POST / HTTP/1.0") == (400, Reason.TRANSFER_ENCODING)


def test_chunked_is_read_in_any_case() -> None:
    assert read(b"transfer-encoding: Chunked").chunked


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket", b"TLS/1.0", b"anything"])
def test_upgrade_changes_nothing(upgrade: bytes) -> None:
    head = read(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + upgrade, b"Content-Length: 5")
    assert (head.content_length, head.keep_alive) == (5, True)


def test_expectations() -> None:
    assert read(b"Expect: 100-Continue").expects_continue
    assert not read(b"Expect: 100-continue", request=b"POST / HTTP/1.0").expects_continue
    assert refused(b"Expect: 200-ok") == (417, Reason.EXPECTATION)


@pytest.mark.parametrize("value", [b"close", b"Close", b"keep-alive, close", b"close,x"])
def test_close_ends_the_connection(value: bytes) -> None:
    assert not read(b"Connection: " + value).keep_alive


def test_fields_are_bounded_in_number() -> None:
    assert len(read(*[b"X: y"] * 99).headers) == 100
    assert refused(*[b"X: y"] * 100) == (431, Reason.TOO_MANY_HEADERS)


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\rX", b"GET \x00", b" GET", b"\n"]
)
def test_hopeless_beginning_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(RequestRefusedError):
        refuse_early(data)


@given(st.binary(max_size=200), st.integers(0, 200))
def test_early_refusal_only_hits_what_would_be_refused(noise: bytes, cut: int) -> None:
    """A head that parses is never refused while it arrives, however it is split."""
    whole = b"GET /x HTTP/1.1\r\nHost: a\r\nX: " + bytes(byte for byte in noise if byte >= 0x20 and byte != 0x7F)
    parse_head(whole, 100)
    cut = min(cut, len(whole))
    if cut:
        refuse_early(whole[:cut])
    refuse_early(whole, cut)


def test_cr_at_the_end_of_a_part_needs_lf_in_the_next() -> None:
    seen = b"GET / HTTP/1.1\r"
    refuse_early(seen)
    refuse_early(seen + b"\n", len(seen))
    with pytest.raises(RequestRefusedError):
        refuse_early(seen + b"X", len(seen))


def test_seen_bytes_are_not_checked_again() -> None:
    """Else a head that arrives byte by byte would cost the square of its length."""
    refuse_early(b"\x00abc", 2)


def test_refusal_of_a_large_head_names_the_limit() -> None:
    refusal = head_too_large(65_536).refusal
    assert (refusal.status, refusal.reason) == (431, Reason.HEAD_TOO_LARGE)
    assert "65536 bytes" in refusal.message
