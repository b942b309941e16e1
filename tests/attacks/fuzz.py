"""Seeded random requests over keys, headers and bodies, each with what may become of it."""

import json
import random
import string
from dataclasses import dataclass
from typing import Any

from platform_app.auth.tokens import checksum, generate_token

_MODEL_ROUTES = (
    ("POST", "/v1/platform/chat"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/embeddings"),
    ("POST", "/openai/deployments/sim-ok/chat/completions?api-version=2024-10-21"),
)
ROUTES = (
    *_MODEL_ROUTES * 5,
    ("GET", "/v1/models"),
    ("GET", "/v1/platform/api-keys"),
    ("POST", "/v1/platform/api-keys"),
    ("PATCH", "/v1/platform/api-keys/abc"),
    ("GET", "/v1/platform/audit"),
    ("GET", "/v1/platform/requests/abc"),
    ("GET", "/v1/platform/usage"),
    ("DELETE", "/v1/platform/chat"),
    ("GET", "/nowhere"),
    ("GET", "/v1/models/"),
    ("GET", "/openai/models?api-version=2024-10-21"),
    ("POST", "/openai/v1/chat/completions/"),
    ("OPTIONS", "/v1/chat/completions"),
    ("GET", "/v1/platform/audit?key_di=abc"),
)
_WRONG_PLACES = ("Proxy-Authorization: Bearer {}", "X-Authorization: Bearer {}", "Cookie: Authorization={}",
                 "X-Forwarded-Authorization: Bearer {}", "Authorization: Basic {}", "Authorization-Key: {}",
                 "X-API-Keys: {}", "X_API_Key: {}", "Authorization: {}", "Authorization: Bearer Bearer {}")  # fmt: skip
_PLACES = ("Authorization: Bearer {}", "authorization: bearer {}", "X-API-Key: {}", "api-key: {}")
_HEADERS = ("X-Forwarded-For: {}", "traceparent: {}", "Accept: {}", "Content-Encoding: {}", "Idempotency-Key: {}",
            "Cookie: {}", "OpenAI-Organization: {}", "X-Padding: {}", "Connection: {}", "Expect: 100-{}", "Origin: {}",
            "Content-Type: {}", "Accept-Encoding: {}", "X-HTTP-Method-Override: {}", "X-Original-URL: {}")  # fmt: skip
_VALUES = ("", "a", "0", "-1", "null", "*/*", "gzip", "chunked", "127.0.0.1", "::1", "' OR '1'='1", "../..",
           "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "application/json", "text/plain", "%00", "\xe9" * 40, "continue",
           "${jndi:ldap://x}", "x" * 2_000, "application/json; charset=\xff", "{{7*7}}", "\t")  # fmt: skip
_LEAVES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1.5,
    1e308,
    10**30,
    "",
    "a",
    "\x00",
    "\ud800",
    "\u202e",
    [],
    {},
    "é" * 50,
)


@dataclass(frozen=True, slots=True)
class Fuzzed:
    """One request, as bytes; `may_enter` only if it carries the good key where a key belongs."""

    data: bytes
    request_id: str
    method: str
    may_enter: bool


def fuzzed(seed: int, number: int, good_key: str) -> Fuzzed:
    """Make the request of this number: always the same for a seed and a key."""
    source = random.Random(f"{seed}-{number}")
    method, path = source.choice(ROUTES)
    credential, may_enter = _credential(source, good_key)
    request_id = f"fuzz-{seed}-{number}"
    body = _body(source, path) if method != "GET" else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", f"X-Request-ID: {request_id}", "Connection: close"]
    lines += credential
    if source.random() < 0.95:
        lines.append("Content-Type: application/json")
    for _ in range(source.choice((0, 0, 0, 1, 3))):
        lines.append(source.choice(_HEADERS).format(source.choice(_VALUES)))
    if source.random() < 0.2:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return Fuzzed("\r\n".join([*lines, "", ""]).encode("latin-1") + body, request_id, method, may_enter)


def _credential(source: random.Random, good_key: str) -> tuple[list[str], bool]:
    """Return the header lines, and whether they hold the good key where a key belongs."""
    kind = source.randrange(12)
    if kind < 7:
        return [source.choice(_PLACES).format(good_key)], True
    if kind == 7:
        return [], False
    if kind == 8:
        return [source.choice(_WRONG_PLACES).format(good_key)], False
    text = source.choice(_BENT_KEYS)(source, good_key)
    if text == good_key:
        return [], False
    return [source.choice(_PLACES).format(text)], False


def _one_character(source: random.Random, key: str) -> str:
    at = source.randrange(len(key))
    return key[:at] + source.choice(string.ascii_letters + string.digits) + key[at + 1 :]


def _one_character_resigned(source: random.Random, key: str) -> str:
    """The checksum fits, the secret does not."""
    body = _one_character(source, key[:-6])
    return body + checksum(body)


def _secret_of_another(source: random.Random, key: str) -> str:
    other = generate_token("test").text
    cut = key.index("_", len("fbp_test_")) + 1
    body = key[:cut] + other[cut:-6]
    return body + checksum(body)


_BENT_KEYS = (
    _one_character,
    _one_character,
    _one_character_resigned,
    _secret_of_another,
    lambda source, key: key[: source.randrange(len(key))],
    lambda source, key: key + source.choice(("a", ".", "\xe9", "=")),
    lambda source, key: key.replace("fbp_test", "fbp_live"),
    lambda source, key: key.swapcase(),
    lambda source, key: key[::-1],
    lambda source, key: f"{key},{key}",
    lambda source, key: f'"{key}"',
    lambda source, key: "x" * source.choice((1, 100, 20_000)),
    lambda source, key: generate_token("test").text,
    lambda source, key: "".join(chr(source.choice(range(0x80, 0x100))) for _ in range(40)),
)


def _body(source: random.Random, path: str) -> bytes:
    kind = source.randrange(10)
    if kind < 2:
        return _VALID.get(path, b"{}")
    if kind < 4:
        return _json(_valid_with_odd_members(source))
    if kind == 4:
        return _json(_value(source, 5))
    if kind == 5:
        return bytes(source.randrange(256) for _ in range(source.choice((0, 1, 50, 2_000))))
    if kind == 6:
        return source.choice((b"[", b"[" * 5_000, b'{"a":' * 500, b"[" * 200 + b"]" * 200))
    if kind == 7:
        return source.choice(_BROKEN)
    if kind == 8:
        return _bent(source, b'{"messages": [{"role": "user", "content": "Hello"}], "model": "sim-ok"}')
    return _json({source.choice("abc") * source.choice((1, 5_000)): [0] * source.choice((1, 500))})


_VALID = {
    "/v1/platform/chat": b'{"prompt": "Hello"}',
    "/v1/chat/completions": b'{"model": "sim-ok", "messages": [{"role": "user", "content": "Hello"}]}',
    "/v1/embeddings": b'{"model": "text-embedding-3-small", "input": "Hello"}',
}
_BROKEN = (
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "a\\u0000b"}',
    b'{"prompt": "\xff\xfe"}',
    b'{"prompt": NaN}',
    b'{"prompt": 1e999}',
    b'{"prompt": ' + b"9" * 5_000 + b"}",
    b'{"prompt": "a", "prompt": "b"}',
    b"\xef\xbb\xbf{}",
    '{"prompt": "a"}'.encode("utf-16"),
    b'{"prompt": "a"}\0',
    b'{"prompt": "a"} {}',
    b'{"\\ud800": 1}',
    b"nul",
    b'"',
)
_MEMBERS = ("model", "messages", "temperature", "max_tokens", "stop", "seed", "tools", "tool_choice", "stream",
            "response_format", "conversation_id", "top_p", "input", "name", "scopes", "owner", "n")  # fmt: skip


def _valid_with_odd_members(source: random.Random) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "sim-ok", "messages": [{"role": "user", "content": "Hello"}], "input": "Hello"}
    if source.random() < 0.5:
        body = {"prompt": "Hello"}
    for _ in range(source.randint(1, 3)):
        body[source.choice(_MEMBERS)] = _value(source, 3)
    return body


def _value(source: random.Random, depth: int) -> Any:
    kind = source.randrange(5)
    if depth == 0 or kind < 3:
        return source.choice(_LEAVES)
    if kind == 3:
        return [_value(source, depth - 1) for _ in range(source.randrange(4))]
    return {source.choice((*_MEMBERS, "role", "content", "\ud800", "")): _value(source, depth - 1) for _ in range(3)}


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _bent(source: random.Random, data: bytes) -> bytes:
    at = source.randrange(len(data))
    return data[:at] + bytes([source.randrange(256)]) + data[at + source.randint(0, 3) :]
