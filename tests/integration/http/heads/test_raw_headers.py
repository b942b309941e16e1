"""Bytes that no client library would send, over raw sockets: no 500, no access without a good key, no crash."""

import json
import re
import socket
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from platform_app.auth.tokens import checksum, generate_token
from tests.conftest import Platform
from tests.support.gateway.http import metric
from tests.support.gateway.keys_api import Api
from tests.support.gateway.process import Gateway

LIST = "/v1/platform/api-keys"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
QUICK = settings(max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module", autouse=True)
def the_gateway_lives_on(gateway: Gateway, platform: Platform) -> Iterator[None]:
    """After everything: no 500, no unexpected line in the log, the same process, and a good key is served."""
    before = metric(gateway.metrics(), "platform_http_requests_total", status="500")
    logged = len(gateway.log_lines())
    yield
    assert gateway.child is not None
    assert gateway.child.poll() is None
    assert metric(gateway.metrics(), "platform_http_requests_total", status="500") == before
    bad = [line for line in gateway.log_lines()[logged:] if line.get("level") in ("error", "critical")]
    assert bad == []
    key = platform.key("platform:api_keys:read")
    assert exchange(gateway, request([b"Authorization: Bearer " + key.encode()])) == [200]


@pytest.fixture(scope="module")
def reader(platform: Platform) -> str:
    """A good key, whose list route responds without a provider."""
    return platform.key("platform:api_keys:read")


def request(headers: list[bytes], target: bytes = LIST.encode(), method: bytes = b"GET") -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: gateway", *headers, b"Connection: close", b"", b""]
    return b"\r\n".join(lines)


def exchange(gateway: Gateway, data: bytes) -> list[int]:
    """Send these bytes; return the status of each response."""
    return [int(status) for status in STATUS.findall(answer(gateway, data))]


def answer(gateway: Gateway, data: bytes) -> bytes:
    """Return all bytes until the gateway closes the connection or sends no more; fail if there are none."""
    received = b""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=300) as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65_536):
                received += piece
                connection.settimeout(0.2)  # a request may have talked it out of closing
        except (ConnectionResetError, BrokenPipeError):
            pass  # it had enough before we were done
        except TimeoutError:
            assert received, f"no answer to {data!r}"
    return received


def refused(gateway: Gateway, data: bytes) -> list[int]:
    """Return the statuses; none may be a success or a 500."""
    statuses = exchange(gateway, data)
    assert statuses, f"no answer to {data!r}"
    assert all(400 <= status < 500 for status in statuses), (statuses, data)
    return statuses


def test_good_key_is_accepted_in_each_header(gateway: Gateway, reader: str) -> None:
    """Otherwise every refusal below would prove nothing."""
    for header in (b"Authorization: Bearer ", b"authorization:bearer ", b"X-API-Key: "):
        assert exchange(gateway, request([header + reader.encode()])) == [200]


# --- arbitrary bytes

NAMES = st.sampled_from([b"Authorization", b"X-API-Key", b"authorization", b"X-Forwarded-For", b"traceparent",
                         b"X-Request-ID", b"Content-Length", b"Transfer-Encoding", b"Host", b"Expect", b"Upgrade",
                         b"Content-Type", b"Cookie", b"Connection"])  # fmt: skip
VALUES = st.binary(max_size=200) | st.sampled_from([b"Bearer ", b"Bearer", b"\xff" * 50, b"\x00", b"chunked", b"-1"])


@QUICK
@given(value=VALUES, name=NAMES, prefix=st.sampled_from([b"", b"Bearer ", b"Bearer fbp_test_"]))
def test_any_header_value_is_refused_without_a_key(gateway: Gateway, name: bytes, value: bytes, prefix: bytes) -> None:
    refused(gateway, request([name + b": " + prefix + value]))


@QUICK
@given(name=st.binary(max_size=60), value=st.binary(max_size=60))
def test_any_header_name_is_refused_without_a_key(gateway: Gateway, name: bytes, value: bytes) -> None:
    refused(gateway, request([name + b": " + value]))


@QUICK
@given(headers=st.lists(st.tuples(NAMES, VALUES), min_size=2, max_size=30), method=st.sampled_from([b"GET", b"POST"]))
def test_many_headers_are_refused_without_a_key(
    gateway: Gateway, headers: list[tuple[bytes, bytes]], method: bytes
) -> None:
    refused(gateway, request([name + b": " + value for name, value in headers], method=method))


@QUICK
@given(target=st.binary(min_size=1, max_size=80))
def test_any_path_gets_a_response(gateway: Gateway, reader: str, target: bytes) -> None:
    """Percent-encoded, so that it reaches the gateway's code. The key may read: 200 is possible, 5xx is not."""
    authorization = [b"Authorization: Bearer " + reader.encode()]
    path = f"{LIST}/{quote_from_bytes(target, safe='')}".encode()
    assert exchange(gateway, request(authorization, path)) == [404]


@QUICK
@given(
    field=st.sampled_from(["owner", "scope", "cursor", "status", "environment", "limit"]),
    value=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
)
def test_any_filter_gets_a_response(gateway: Gateway, reader: str, field: str, value: bytes) -> None:
    authorization = [b"Authorization: Bearer " + reader.encode()]
    target = f"{LIST}?{field}={quote_from_bytes(value, safe='')}".encode()
    (status,) = exchange(gateway, request(authorization, target))
    assert status in (200, 422)


@QUICK
@given(position=st.integers(0, 60), byte=st.integers(0, 255))
def test_key_with_one_byte_changed_is_refused(gateway: Gateway, reader: str, position: int, byte: int) -> None:
    changed = bytearray(reader.encode())
    if changed[position] == byte:
        byte = (byte + 1) % 256
    changed[position] = byte
    refused(gateway, request([b"Authorization: Bearer " + bytes(changed)]))


# --- by hand


def test_large_and_many_headers_get_a_response(gateway: Gateway, reader: str) -> None:
    good = b"Authorization: Bearer " + reader.encode()
    for headers in (
        [b"X-Padding: " + b"x" * 33_000],
        [b"X-Padding: " + b"x" * 200_000],
        [b"X-%d: y" % number for number in range(5_000)],
        [b"X-API-Key: " + reader.encode()] * 600,
        [b"x" * 40_000 + b": y"],
    ):
        assert refused(gateway, request([good, *headers])) == [431]
    assert refused(gateway, request([b"Authorization: Bearer " + b"a" * 31_000])) == [401]


SPLITS = [b"\r\n", b"\n", b"\r", b"\r\n ", b"\n\t", b"\x0b", b"\x0c", b"\x85", "\u2028".encode(), b"%0d%0a", b"\x00"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("header", [b"X-Request-ID", b"traceparent", b"X-Forwarded-For", b"Authorization"])
def test_line_break_in_a_header_injects_no_header(gateway: Gateway, split: bytes, header: bytes) -> None:
    """What a client sends in one header never starts another header in the response."""
    data = request([header + b": Bearer a" + split + b"X-Injected: yes"])
    received = answer(gateway, data)
    assert STATUS.findall(received) in ([b"400"], [b"401"])
    assert b"injected" not in received.lower().partition(b"\r\n\r\n")[0]


def test_key_of_a_second_request_serves_not_the_first(gateway: Gateway, reader: str) -> None:
    """Of two requests on one connection, the key of the second does not authenticate the first."""
    second = request([b"Authorization: Bearer " + reader.encode()])
    first = b"GET %s HTTP/1.1\r\nHost: gateway\r\n\r\n" % LIST.encode()
    assert exchange(gateway, first + second) == [401, 200]
    smuggled = b"POST %s HTTP/1.1\r\nHost: gateway\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    statuses = exchange(gateway, smuggled % LIST.encode() + second)
    assert statuses[0] in (400, 401)
    assert 500 not in statuses


def _resigned(key: str, **changes: str) -> str:
    """The key with one character changed, and a matching checksum where possible."""
    body = key[:-6]
    for old, new in changes.items():
        body = body.replace(old, new, 1)
    return body + (checksum(body) if body.isascii() else key[-6:])


WIDE = {ord(str(digit)): ord("０") + digit for digit in range(10)}  # noqa: RUF001
LOOKALIKES = {ord("a"): "а", ord("e"): "е", ord("o"): "о", ord("p"): "р", ord("c"): "с", ord("b"): "Ь"}  # noqa: RUF001


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-7"])
@pytest.mark.parametrize("header", [b"Authorization: Bearer ", b"X-API-Key: "])
def test_unicode_lookalikes_of_a_key_are_refused(gateway: Gateway, reader: str, header: bytes, encoding: str) -> None:
    zero_width = ["\u200b", "\u200d", "\ufeff", "\u2060", "\u00ad"]
    tricks = [
        reader.translate(WIDE),
        reader.translate(LOOKALIKES),
        *(reader[:12] + mark + reader[12:] for mark in zero_width),
        *(reader + mark for mark in zero_width),
        *(mark + reader for mark in zero_width),
        reader.replace("_", "＿"),  # noqa: RUF001
        "".join(chr(ord(character) + 0xFEE0) for character in reader),
        reader + "\u0301",
        reader.swapcase(),
        reader[::-1],
    ]
    if encoding == "utf-16-le":
        tricks.append(reader)  # the very key, in an encoding that headers do not have
    for trick in tricks:
        assert refused(gateway, request([header + trick.encode(encoding)])) in ([400], [401]), trick


SQL = [
    "' OR '1'='1", "'; DROP TABLE api_keys; --", "\" OR \"\"=\"", "1) UNION SELECT * FROM api_key_secrets --", "%' --",
    "\\'; SELECT pg_sleep(5); --", "$$; SELECT 1; $$", "{platform:chat}", "NULL", "0x27", "/**/", "E'\\\\x00'", "%00",
]  # fmt: skip


@pytest.mark.parametrize("injection", SQL)
def test_sql_in_keys_has_no_effect(gateway: Gateway, injection: str) -> None:
    token = generate_token("test").text
    for key in (injection, f"fbp_test_{injection}", token[:9] + injection + token[9:], token + injection):
        for header in (f"Authorization: Bearer {key}", f"X-API-Key: {key}"):
            assert refused(gateway, request([header.encode()])) == [401]


@pytest.mark.parametrize("injection", SQL)
async def test_sql_in_filters_and_ids_has_no_effect(admin: Api, injection: str) -> None:
    for field in ("owner", "scope"):
        response = await admin.page(**{field: injection})
        assert (response.status_code, response.json()) == (200, {"data": [], "next_cursor": None})
    for field in ("cursor", "status", "environment", "limit"):
        response = await admin.page(**{field: injection})
        assert (response.status_code, response.json()["error"]["code"]) == (422, "validation_error")
    for owner_or_name in ("owner", "name"):
        key_id, _ = await admin.created(**{owner_or_name: injection})
        assert (await admin.show(key_id)).json()[owner_or_name] == injection
    assert key_id not in await admin.listed(owner=injection)
    for method, path in (("GET", ""), ("PATCH", ""), ("POST", "/rotate"), ("POST", "/revoke")):
        quoted = quote_from_bytes(injection.encode(), safe="")
        response = await admin.call(method, f"/{quoted}{path}", json={"reason": "x"} if path == "/revoke" else {})
        assert response.status_code == 404, response.text
        assert json.loads(response.text)["error"]["code"] == "not_found"
    assert (await admin.page(limit=1)).status_code == 200


async def test_forged_cursor_is_refused(admin: Api, client: httpx.AsyncClient) -> None:
    """Any filter returns a page or a 422, also with the first and the last date."""
    for cursor in ("MC4wMDAwMDAwMDAwMDA", "LTEuMDAwMDAwMDAwMDAw", "OTk5OTk5OTk5OTk5OTk5OTk5LjAwMDAwMDAwMDAwMA",
                   "LTYyMTM1NTk2ODAwMDAwMDAwMC4wMDAwMDAwMDAwMDA", "MjUzNDAyMzAwNzk5OTk5OTk5LjAwMDAwMDAwMDAwMA",
                   "=", "====", "a", "é", "MQ", "MS4n"):  # fmt: skip
        assert (await admin.page(cursor=cursor)).status_code in (200, 422), cursor
