"""No secret and no prompt comes out anywhere: every kind of request is made, and everything that came out is searched.

Canaries stand for what must stay inside. One gateway serves them all, at the log level `debug`.
"""

import asyncio
import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

import platform_app
from apps.provider_simulator.catalog import MODELS
from apps.provider_simulator.server import ProviderSimulator
from platform_app.auth.tokens import generate_token
from tests.conftest import GENEROUS, PATIENT, PROVIDER_KEY, Platform
from tests.integration.test_ledger import connected
from tests.support.faults import FIRST_BYTE_SECONDS
from tests.support.gateway import Gateway, write_catalog
from tests.support.http import OPENAI_CHAT, PLATFORM_CHAT, access_line, chat_request, connect
from tests.support.servers import Server

PROMPT = "canary-prompt-7d1f0c"
OTHER_KEY = "0ca7a21e5b3d4f60817293a4b5c6d7e8"
"""As Azure's are: without anything by which a key could be known."""
QUOTED = "canary-quoted-2b8e41"
MESSAGES = {"messages": [{"role": "user", "content": PROMPT}]}
DATABASE_PASSWORD = "canary-db-pw-93ab"
REDIS_PASSWORD = "canary-redis-pw-5e07"
BUG_MODEL = "a-model-that-meets-a-bug"
# A module that Python imports by itself when it is on the path: the only way to put a bug into a real worker.
BUG = f'''
import sys

sys.path.insert(0, {str(Path(platform_app.__file__).parents[1])!r})  # not yet there, so early
import platform_app.llm.openai_adapter as adapter

send = adapter.OpenAIAdapter.send

class Buggy:
    def __init__(self, rest):
        self.aclose = rest.aclose

    async def __anext__(self):
        raise LookupError("a bug in the middle of a stream")

async def buggy_send(self, call, credential):
    if call.model == "{BUG_MODEL}":
        prompt = call.body["messages"][0]["content"]
        if call.body.get("seed") == 7:
            {{}}[prompt]
        raise RuntimeError(f"a bug near {{credential}}")
    answer = await send(self, call, credential)
    if call.body.get("seed") == 13:
        answer._rest = Buggy(answer._rest)
    return answer

adapter.OpenAIAdapter.send = buggy_send
'''


@dataclass
class Seen:
    """Everything that came out, by where it did."""

    answers: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    log: str = ""
    metrics: str = ""
    records: str = ""

    def add(self, what: str, response: httpx.Response) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        self.answers[what] = f"{response.status_code}\n{head}\n\n{response.text}"
        self.statuses[what] = response.status_code


def _echo() -> Server:
    """A provider that repeats our credential in everything that it says; the model's name holds the status."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.findall(rb"content-length: (\d+)", head, re.I)[0])
        asked = head + await reader.readexactly(length)
        key = re.findall(rb"(?:authorization: Bearer|x-api-key:|api-key:) (\S+)", head, re.I)[0].decode()
        status = int(re.findall(rb"echo-(\d+)", asked)[0])
        told = {"type": key, "code": key, "message": f"'{key}' is wrong", "param": key}
        kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
        body = json.dumps({"type": "error", "error": {**told, "type": kinds.get(status, key)}}).encode()
        if status == 200:
            body = b"event: error\ndata: %b\n\n" % body
        kind = b"text/event-stream" if status == 200 else b"application/json"
        writer.write(b"HTTP/1.1 %d Echo\r\nContent-Type: %b\r\nX-Echo: %b\r\nContent-Length: %d\r\n\r\n%b" % (
            status, kind, key.encode(), len(body), body))  # fmt: skip
        await writer.drain()

    return Server(serve)


ECHOES = [f"echo-{wire}-{status}" for wire in ("openai", "azure", "anthropic") for status in (200, 400, 401, 429, 500)]


@pytest.fixture(scope="module")
async def canaries(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Gateway]:
    directory = tmp_path_factory.mktemp("canaries")
    (directory / "sitecustomize.py").write_text(BUG)
    azure, anthropic = {"wire_format": "azure", "api_version": "2024-10-21"}, {"wire_format": "anthropic"}
    secret = {"api_key_secret": "OTHER_API_KEY"}
    async with _echo() as echo:
        config = write_catalog(
            directory / "platform.yaml",
            {
                "simulator": {"base_url": simulator.base_url},
                "azure": {"base_url": simulator.azure_url, **azure, **secret},
                "anthropic": {"base_url": simulator.anthropic_url, **anthropic, **secret},
                "echo-openai": {"base_url": echo.url, **secret},
                "echo-azure": {"base_url": echo.url, **azure, **secret},
                "echo-anthropic": {"base_url": echo.url, **anthropic, **secret},
            },
            {
                **{name: [("simulator", name)] for name in [*MODELS, BUG_MODEL]},
                **{f"{wire}:{name}": [(wire, name)] for name in MODELS for wire in ("azure", "anthropic")},
                **{name: [(name.rpartition("-")[0], f"echo-{name.rpartition('-')[2]}")] for name in ECHOES},
            },
            rate_limits={
                "rules": [
                    *GENEROUS["rules"],
                    {"name": "strict", "scope": "key_model", "limit": 100, "window_seconds": 60},
                ]
            },
            policies=PATIENT,
        )
        url = platform.environment["PLATFORM_DATABASE_URL"]
        assert "://postgres@/" in url
        environment = {
            **platform.environment,
            "PYTHONPATH": str(directory),
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_LOG_LEVEL": "debug",
            "PLATFORM_PROVIDER_FIRST_BYTE_TIMEOUT_SECONDS": str(FIRST_BYTE_SECONDS),
            "PLATFORM_DATABASE_URL": url.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@"),
            # A Redis that cannot be reached: its address has a password, and its failure is logged.
            "PLATFORM_REDIS_URL": f"redis://user:{REDIS_PASSWORD}@127.0.0.1:1/0",
            "OTHER_API_KEY": OTHER_KEY,
        }
        gateway = Gateway(environment, directory)
        await asyncio.to_thread(gateway.start)
        try:
            yield gateway
        finally:
            await asyncio.to_thread(gateway.stop)


@pytest.fixture(scope="module")
def keys(platform: Platform) -> dict[str, str]:
    """Keys of every kind; all of them are secrets."""
    revoked, text = platform.new_key()
    platform.revoke(revoked.key_id)
    good = platform.key()
    return {
        "good": good,
        "revoked": text,
        "expiring": platform.key(expires_at=datetime.now(UTC) + timedelta(seconds=0.2)),
        "of everything": platform.key("platform:*"),
        "without scope": platform.key("platform:usage:read"),
        "of one model": platform.key(models=["gpt-4o"]),
        "unknown": generate_token("test").text,
        "mistyped": good[:-1] + ("0" if good[-1] != "0" else "1"),
    }


@pytest.fixture(scope="module")
async def seen(canaries: Gateway, keys: dict[str, str], platform: Platform) -> Seen:
    """What came out of one gateway that was asked everything."""
    seen = Seen()
    good = {"Authorization": f"Bearer {keys['good']}"}
    async with httpx.AsyncClient(timeout=15, trust_env=False) as client:

        async def ask(
            what: str, body: Any, headers: dict[str, str] = good, path: str = PLATFORM_CHAT, **options: Any
        ) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body)
            headers = {"Content-Type": "application/json", **headers}
            seen.add(what, await client.post(canaries.base_url + path, content=content, headers=headers, **options))

        for name, key in keys.items():
            await ask(f"key: {name}", {"prompt": PROMPT}, {"Authorization": f"Bearer {key}"})
            await ask(f"X-API-Key: {name}", {"prompt": PROMPT}, {"X-API-Key": key})
        await ask("key: as a scheme", {"prompt": PROMPT}, {"Authorization": keys["good"]})
        await ask("key: twice", {"prompt": PROMPT}, {**good, "X-API-Key": keys["unknown"]})
        await ask("key: none", {"prompt": PROMPT}, {})
        await ask("key: as the request id", {"prompt": PROMPT}, {**good, "X-Request-ID": f"<{keys['good']}>"})
        await ask("key: in the URL", {"prompt": PROMPT}, good, params={"api_key": keys["good"]})
        await asyncio.gather(
            *(
                ask(f"{name} {stream}", {"prompt": PROMPT, "model": name, "stream": stream})
                for name in MODELS
                for stream in (False, True)
                if name not in ("sim-huge-body", "sim-huge-line")
            )
        )
        await asyncio.gather(
            *(
                ask(f"{path} {name} {stream}", {**MESSAGES, "model": name, "stream": stream}, path=path)
                for name in [
                    *MODELS,
                    *(f"{wire}:{name}" for wire in ("azure", "anthropic") for name in MODELS),
                    *ECHOES,
                ]
                for stream in (False, True)
                for path in (OPENAI_CHAT, PLATFORM_CHAT)
                if not name.endswith(("sim-huge-body", "sim-huge-line"))
                if ":" in name or path == OPENAI_CHAT or name in ECHOES
            )
        )
        for name, key in keys.items():
            await ask(f"OpenAI, key: {name}", MESSAGES, {"Authorization": f"Bearer {key}"}, path=OPENAI_CHAT)
            for path in ("/v1/models", f"/v1/models/{key}", "/v1/models/gpt-4o"):
                read = await client.get(canaries.base_url + path, headers={"Authorization": f"Bearer {key}"})
                seen.add(f"{path[:12]} {name}", read)
        odd: dict[str, Any] = {
            "no JSON": f"{{{PROMPT}".encode(), "big": f'{{"messages":[{{"role":"{PROMPT}","x":{"9" * 30}}}]}}'.encode(),
            "surrogate": {"messages": [{"role": "user", "content": f"{PROMPT}\ud800"}]},
            "deep": b'{"messages":[{"role":"user"}],"x":' + b"[" * 300 + b"]" * 300 + b"}",
            "messages": {"messages": PROMPT}, "role": {"messages": [{"content": PROMPT}]},
            "no messages": {"model": PROMPT},
            "stream": {**MESSAGES, "stream": PROMPT}, "options": {**MESSAGES, "stream_options": {PROMPT: PROMPT}},
            "a bug": {**MESSAGES, "model": BUG_MODEL}, "a key as the model": {**MESSAGES, "model": keys["good"]},
        }  # fmt: skip
        for name, body in odd.items():
            await ask(f"OpenAI, body: {name}", body, path=OPENAI_CHAT)
            await ask(f"embeddings, body: {name}", body, path="/v1/embeddings")
        everything = {"Authorization": f"Bearer {keys['of everything']}"}
        for name in ("text-embedding-3-small", "azure:text-embedding-3-small", "anthropic:sim-ok", *ECHOES):
            await ask(f"embeddings {name}", {"input": PROMPT, "model": name}, everything, path="/v1/embeddings")
        bodies: dict[str, Any] = {
            "not JSON": f"{{{PROMPT}".encode(), "unknown field": {"prompt": PROMPT, PROMPT[:3]: PROMPT},
            "wrong type": {"prompt": [PROMPT]}, "wrong role": {"messages": [{"role": PROMPT, "content": PROMPT}]},
            "surrogate": {"prompt": PROMPT + "\ud800"}, "NUL": {"prompt": PROMPT + "\0"},
            "both": {"prompt": PROMPT, "messages": [{"role": "user", "content": PROMPT}]},
            "huge": {"prompt": PROMPT * 600_000}, "deep": PROMPT.encode() + b"[" * 100_000,
            "invalid UTF-8": PROMPT.encode() + b"\xff", "no model": {"prompt": PROMPT, "model": "none"},
            "metadata": {"prompt": PROMPT, "metadata": {"a": [PROMPT]}},
            "tools": {"prompt": PROMPT, "tools": [{"type": "function", "function": {"name": "f", "strict": PROMPT}}]},
            "a bug": {"prompt": PROMPT, "model": BUG_MODEL},
            "a bug that quotes": {"prompt": QUOTED, "model": BUG_MODEL, "seed": 7},
            "a bug in a stream": {"prompt": PROMPT, "seed": 13, "stream": True},
        }  # fmt: skip
        for name, body in bodies.items():
            try:
                await ask(f"body: {name}", body)
            except httpx.TransportError as error:  # a stream that a bug cut off, or a body that was refused half-way
                seen.answers[f"body: {name}"] = repr(error)
        await ask("body: another type", {"prompt": PROMPT}, {**good, "Content-Type": f"text/{PROMPT[:6]}"})
        for path in ("/", "/readyz", "/v1/meta", "/openapi.json", "/metrics", f"/{PROMPT}"):
            seen.add(path, await client.get(canaries.base_url + path, headers=good))
        async with connect(canaries) as connection:
            body = {"prompt": PROMPT, "model": "sim-slow-stream", "stream": True}
            await connection.send(chat_request(keys["good"], body, "left"))
            await connection.reader.readuntil(b"event: delta")
    await access_line(canaries, "left")
    seen.records = await _records(platform.environment["PLATFORM_DATABASE_URL"])
    seen.log = canaries.log_file.read_text()
    seen.metrics = canaries.metrics()
    return seen


async def _records(database_url: str) -> str:
    """All that the ledger holds, once the last request's record is there."""
    async with connected(database_url) as connection, asyncio.timeout(10):
        while not await connection.fetch("SELECT 1 FROM usage_records WHERE request_id = 'left'"):
            await asyncio.sleep(0.1)
        tables = ("usage_records", "usage_daily", "access_decisions", "audit_events", "api_keys")
        rows = [row for table in tables for row in await connection.fetch(f"SELECT t::text FROM {table} t")]
        return "\n".join(row[0] for row in rows)


def test_everything_was_met(seen: Seen) -> None:
    """What the searches below lean on."""
    assert set(seen.statuses.values()) >= {200, 400, 401, 403, 404, 415, 422, 500, 502, 503, 504}
    assert seen.statuses["key: good"] == seen.statuses["X-API-Key: good"] == 200
    assert seen.statuses["body: a bug"] == seen.statuses["OpenAI, body: a bug"] == 500
    for wire in ("openai", "azure", "anthropic"):
        for stream in (False, True):
            assert "'[masked]' is wrong" in seen.answers[f"{OPENAI_CHAT} echo-{wire}-400 {stream}"]
    assert all(seen.statuses[f"{OPENAI_CHAT} {wire}:sim-ok True"] == 200 for wire in ("azure", "anthropic"))
    assert seen.statuses["embeddings azure:text-embedding-3-small"] == 200
    assert all(outcome in seen.records for outcome in ("client_closed", "provider_auth_failed", "echo-azure-400"))
    assert f"You said: {PROMPT}" in seen.answers["key: good"], "an answer is the one place for a prompt"
    lines = [json.loads(line) for line in seen.log.splitlines()]
    events = {line["event"] for line in lines}
    assert {"request", "unhandled_error", "limiter_degraded"} <= events
    reasons = {line.get("reason") for line in lines}
    assert {"client_closed", "invalid_api_key", "internal_error", "provider_auth_failed", "validation_error"} <= reasons
    assert "platform_provider_requests_total" in seen.metrics


def _secret_parts(keys: dict[str, str]) -> dict[str, str]:
    """What must not be seen of a key: all behind its public id, and each half of that."""
    parts = {}
    for name, key in keys.items():
        secret = key.rsplit("_", 1)[1]
        parts[f"secret of the key {name}"] = secret
        parts[f"start of the key {name}"] = secret[:12]
        parts[f"end of the key {name}"] = secret[-12:]
    return parts


def _hidden(keys: dict[str, str], platform: Platform) -> dict[str, str]:
    pepper = platform.environment["PLATFORM_API_KEY_PEPPER"].split(":")[1]
    return {
        **_secret_parts(keys),
        "provider key": PROVIDER_KEY,
        "other provider key": OTHER_KEY,
        "start of the other provider key": OTHER_KEY[:10],
        "start of the provider key": PROVIDER_KEY[:14],
        "end of the provider key": PROVIDER_KEY[-8:],
        "pepper": pepper,
        "database password": DATABASE_PASSWORD,
        "Redis password": REDIS_PASSWORD,
    }


def test_no_secret_is_in_an_answer(seen: Seen, keys: dict[str, str], platform: Platform) -> None:
    found = [
        (name, what) for name, secret in _hidden(keys, platform).items() for what, text in seen.answers.items()
        if secret in text
    ]  # fmt: skip
    assert not found


@pytest.mark.parametrize("where", ["log", "metrics", "records"])
def test_no_secret_is_in_what_operators_see(seen: Seen, keys: dict[str, str], platform: Platform, where: str) -> None:
    text = getattr(seen, where)
    found = [name for name, secret in _hidden(keys, platform).items() if secret in text]
    assert not found


@pytest.mark.parametrize("where", ["log", "metrics", "records"])
def test_no_prompt_is_in_what_operators_see(seen: Seen, where: str) -> None:
    lines = [line[:400] for line in getattr(seen, where).splitlines() if PROMPT in line]
    assert not lines


def test_errors_do_not_repeat_the_prompt(seen: Seen) -> None:
    found = [
        what for what, text in seen.answers.items()
        if PROMPT in text and what in seen.statuses and seen.statuses[what] != 200
    ]  # fmt: skip
    assert not found


def test_no_traceback_and_no_place_in_our_code_is_told(seen: Seen) -> None:
    for what, text in seen.answers.items():
        for sign in ("Traceback", 'File "', ".py", "RuntimeError", "LookupError", "sqlalchemy", "api_key_secrets"):
            if what != "/openapi.json":
                assert sign not in text, (what, sign)
    assert "Traceback" not in seen.log
    assert "Traceback" not in seen.metrics


def test_a_bug_is_told_by_its_request_id_and_found_by_it(seen: Seen) -> None:
    head, _, body = seen.answers["body: a bug"].partition("\n\n")
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["code"] == "internal_error"
    assert f"x-request-id: {error['request_id']}" in head
    (line,) = [
        found for found in map(json.loads, seen.log.splitlines())
        if found["event"] == "unhandled_error" and found["request_id"] == error["request_id"]
    ]  # fmt: skip
    assert line["error"] == "RuntimeError"
    assert any("buggy_send" in place for place in line["error_at"])


def test_the_search_finds_what_is_there() -> None:
    """A canary of the canaries: each of them is a text that the searches above would find."""
    pepper = secrets.token_hex(32)
    platform = Platform({"PLATFORM_API_KEY_PEPPER": f"1:{pepper}"})
    key = generate_token("live").text
    leak = f"{key} {PROVIDER_KEY} {OTHER_KEY} {pepper} {DATABASE_PASSWORD} {REDIS_PASSWORD}"
    assert all(secret in leak and len(secret) >= 8 for secret in _hidden({"leaked": key}, platform).values())


def test_a_bug_whose_message_quotes_what_it_met_is_logged_without_the_quote(seen: Seen) -> None:
    """Many exceptions quote the value that they choked on; the line that reports one must not pass it on."""
    lines = [json.loads(line) for line in seen.log.splitlines() if '"KeyError"' in line]
    assert lines, "the bug was not met"
    assert not [line for line in lines if QUOTED in json.dumps(line)]
