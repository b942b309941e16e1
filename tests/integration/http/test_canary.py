"""No secret and no prompt comes out anywhere: every kind of request is made, and everything that came out is searched.

Canaries stand for what must stay inside. One gateway serves them all, at the log level `debug`.
"""

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from apps.provider_simulator.faults.catalog import MODELS
from apps.provider_simulator.formats.wire import masked
from apps.provider_simulator.server import ProviderSimulator
from platform_app.auth.tokens import generate_token
from tests.conftest import GENEROUS, PROVIDER_KEY, Platform
from tests.support.gateway.http import access_line, chat_request, connect, until
from tests.support.gateway.process import Gateway
from tests.support.observability.canary_bodies import CARRIED, MESSAGES, NAMED, PROMPT
from tests.support.observability.canary_requests import ASKED_OVER, ENDLESS, ask_over_client_routes
from tests.support.observability.exposed import add_header, audit_of, ledger_of, log_of, spans_of
from tests.support.observability.planted_bug import BUG, BUG_MODEL, LEAK_SEED, WIRES
from tests.support.observability.tracing.otlp import Received, http_receiver
from tests.support.providers.faults import GATEWAY_IDLE_SECONDS

HEADER = "canary-header-4c1d9e"
QUOTED = "canary-quoted-2b8e41"
DATABASE_PASSWORD = "canary-db-pw-93ab"
REDIS_PASSWORD = "canary-redis-pw-5e07"
PROVIDER_KEYS = {
    "simulator": PROVIDER_KEY,
    "azure": "canary-azure-9f1b64d2a7c05e83",
    "anthropic": "sk-ant-canary-0c7e52f8b91d4a36",
    "responses": "sk-proj-canary-61d0b7f42e985ac3",
}
PLACES = ("log", "metrics", "ledger", "audit", "spans")


@dataclass
class Seen:
    """Everything that the gateway sent, logged or stored, by place."""

    answers: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    log: str = ""
    metrics: str = ""
    ledger: str = ""
    audit: str = ""
    spans: str = ""

    def add(self, what: str, response: httpx.Response) -> None:
        head = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        self.answers[what] = f"{response.status_code}\n{head}\n\n{response.text}"
        self.statuses[what] = response.status_code


@pytest.fixture(scope="module")
def collector() -> Iterator[Received]:
    with http_receiver() as received:
        yield received


@pytest.fixture(scope="module")
def canaries(
    platform: Platform, simulator: ProviderSimulator, collector: Received, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    directory = tmp_path_factory.mktemp("canaries")
    (directory / "sitecustomize.py").write_text(BUG)
    urls = {
        "simulator": simulator.base_url, "azure": simulator.azure_url, "anthropic": simulator.anthropic_url,
        "responses": simulator.base_url,
    }  # fmt: skip
    more: dict[str, dict[str, str]] = {
        "simulator": {},
        "azure": {"wire_format": "azure", "api_version": "2024-10-21"},
        "anthropic": {"wire_format": "anthropic"},
        "responses": {"wire_format": "openai-responses"},
    }
    routes = {name: [("simulator", name)] for name in (*MODELS, BUG_MODEL)}
    routes |= {f"{wire}/{name}": [(wire, name)] for wire in WIRES for name in MODELS if wire != "simulator"}
    routes["falls-back"] = [("azure", "sim-unauthorized"), ("anthropic", "sim-not-found"), ("simulator", "sim-ok")]
    strict = {"name": "strict", "scope": "key_model", "limit": 10_000, "window_seconds": 60}
    sections = {
        "providers": {
            wire: {"base_url": urls[wire], "api_key_secret": secret, **more[wire]} for wire, secret in WIRES.items()
        },
        "models": {
            name: {"routes": [{"provider": wire, "model": model} for wire, model in ways]}
            for name, ways in routes.items()
        },
        "policies": {
            "retry": {"max_attempts": 2, "base_seconds": 0.01, "max_seconds": 0.02},
            "breaker": {"minimum_calls": 100_000},
        },
        "rate_limits": {"rules": [*GENEROUS["rules"], strict]},
    }
    config = directory / "platform.yaml"
    config.write_text(yaml.safe_dump(sections))
    url = platform.environment["PLATFORM_DATABASE_URL"]
    assert "://postgres@/" in url
    environment = {
        **platform.environment,
        **{WIRES[wire]: key for wire, key in PROVIDER_KEYS.items()},
        "PYTHONPATH": str(directory),
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_LOG_LEVEL": "debug",
        "PLATFORM_PROVIDER_IDLE_TIMEOUT_SECONDS": str(GATEWAY_IDLE_SECONDS),
        "PLATFORM_DATABASE_URL": url.replace("postgres@", f"postgres:{DATABASE_PASSWORD}@"),
        # A Redis that cannot be reached: its address has a password, and its failure is logged.
        "PLATFORM_REDIS_URL": f"redis://user:{REDIS_PASSWORD}@127.0.0.1:1/0",
        "PLATFORM_TRACE_SAMPLE_RATIO": "1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_MAX_QUEUE_SIZE": "100000",
    }
    with Gateway(environment, directory) as running:
        yield running


@pytest.fixture(scope="module")
def keys(platform: Platform) -> dict[str, str]:
    """Keys of every kind: each is a secret."""
    revoked, text = platform.new_key()
    platform.revoke(revoked.key_id)
    good = platform.key("platform:chat", "platform:embeddings", "platform:models:read", "platform:usage:read")
    return {
        "good": good,
        "revoked": text,
        "expired": platform.expired_key(),
        "without scope": platform.key("platform:usage:read"),
        "of one model": platform.key(models=["gpt-4o"]),
        "unknown": generate_token("test").text,
        "mistyped": good[:-1] + ("0" if good[-1] != "0" else "1"),
    }


@pytest.fixture(scope="module")
async def seen(canaries: Gateway, collector: Received, keys: dict[str, str], platform: Platform) -> Seen:
    """Everything that one gateway sent, logged or stored after requests of every kind."""
    seen = Seen()
    good = {"Authorization": f"Bearer {keys['good']}"}
    async with httpx.AsyncClient(timeout=300, trust_env=False) as client:

        async def ask(
            what: str, body: Any, headers: dict[str, str] = good, path: str = "/v1/platform/chat", **options: Any
        ) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body)
            headers = {"Content-Type": "application/json", **headers}
            seen.add(what, await client.post(canaries.base_url + path, content=content, headers=headers, **options))

        async def ask_as_openai(what: str, body: Any, operation: str = "chat/completions", **headers: str) -> None:
            await ask(f"OpenAI: {what}", body, {**good, **headers}, f"/v1/{operation}")

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
                if name not in ENDLESS
            )
        )
        await ask_over_client_routes(ask, keys)
        for model in ("text-embedding-3-small", "sim-unauthorized", "azure/sim-unauthorized", "anthropic/sim-ok"):
            await ask_as_openai(f"vectors of {model}", {"input": [PROMPT], "model": model}, "embeddings")
        await ask_as_openai("falls back", {"messages": MESSAGES, "model": "falls-back"})
        for attempt in (1, 2):
            once = {"Idempotency-Key": f"{PROMPT}-{keys['good']}"}
            await ask_as_openai(f"once, {attempt}", {"messages": MESSAGES, "model": "sim-ok"}, **once)
        await ask("once, ours", {"prompt": PROMPT}, {**good, "Idempotency-Key": f"{PROMPT}-{keys['good']}"})
        await ask("a bad Idempotency-Key", {"prompt": PROMPT}, {**good, "Idempotency-Key": PROMPT * 30})
        for name, key in keys.items():
            await ask(
                f"OpenAI: key: {name}",
                {"messages": MESSAGES, "model": "sim-ok"},
                {"Authorization": f"Bearer {key}"},
                "/v1/chat/completions",
            )
        unfit: dict[str, Any] = {
            "not JSON": f"{{{PROMPT}".encode(), "a list": [PROMPT], "no messages": {"messages": PROMPT},
            "no role": {"messages": [{"content": PROMPT}]}, "long": {"messages": MESSAGES, "a": [2**70, PROMPT]},
            "surrogate": {"messages": [{"role": "user", "content": PROMPT + "\ud800"}]},
            "deep": b'{"messages": ["%b", %b%b]}' % (PROMPT.encode(), b"[" * 400, b"]" * 400),
            "options": {"messages": MESSAGES, "stream_options": PROMPT},
            "no model": {"messages": MESSAGES, "model": "x"},
            "not Anthropic's": {"messages": MESSAGES, "model": "anthropic/sim-ok", "n": 2, "logit_bias": {PROMPT: 1}},
            "a bug": {"messages": MESSAGES, "model": BUG_MODEL},
            "a bug that quotes": {"messages": [{"role": "user", "content": QUOTED}], "model": BUG_MODEL, "seed": 7},
        }  # fmt: skip
        for name, body in unfit.items():
            await ask_as_openai(f"body: {name}", body)
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
        leaking = {"messages": MESSAGES, "model": BUG_MODEL, "seed": LEAK_SEED}
        await ask_as_openai("a bug that leaks", leaking, **{"X-Request-ID": "leaking"})
        asked = ("/", "/readyz", "/v1/meta", "/openapi.json", "/metrics", f"/{PROMPT}", f"/v1/{PROMPT}", "/v1/models")
        mine = ("/v1/models/gpt-4o", "/v1/models/none", "/v1/platform/usage?group_by=key", "/v1/platform/limits")
        for path in (*asked, *mine, "/v1/responses/resp_0123456789"):
            seen.add(path, await client.get(canaries.base_url + path, headers=good))
        async with connect(canaries) as connection:
            body = {"prompt": PROMPT, "model": "sim-slow-stream", "stream": True}
            await connection.send(chat_request(keys["good"], body, "left"))
            await connection.reader.readuntil(b"event: delta")
    await access_line(canaries, "leaking")
    await access_line(canaries, "left")
    add_header(Path(canaries.environment["PLATFORM_CONFIG_FILE"]), "simulator", HEADER)
    await until(lambda: '"event":"config_reloaded"' in log_of(canaries))
    database = platform.environment["PLATFORM_DATABASE_URL"]
    seen.audit = await audit_of(database)
    seen.ledger = await ledger_of(database, keys["good"])
    seen.log = log_of(canaries)
    seen.spans = await spans_of(canaries, collector)
    seen.metrics = canaries.metrics()
    return seen


def _lines(log: str) -> list[dict[str, Any]]:
    """Return the log's lines without those of faulthandler, which are not JSON."""
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_every_operation_was_called(seen: Seen) -> None:
    """The facts that the searches below depend on."""
    assert set(seen.statuses.values()) >= {200, 400, 401, 403, 404, 415, 422, 500, 502, 503, 504}
    assert seen.statuses["key: good"] == seen.statuses["X-API-Key: good"] == 200
    assert seen.statuses["body: a bug"] == 500
    assert f"You said: {PROMPT}" in seen.answers["key: good"], "an answer is the one place for a prompt"
    lines = _lines(seen.log)
    events = {line["event"] for line in lines}
    assert {"request", "unhandled_error", "limiter_degraded"} <= events
    reasons = {line.get("reason") for line in lines}
    assert {"client_closed", "invalid_api_key", "internal_error", "provider_auth_failed", "validation_error"} <= reasons
    assert "platform_provider_requests_total" in seen.metrics
    assert {"provider_retry", "provider_fallback"} <= events
    assert {"provider_rejected_request", "provider_not_configured", "idempotency_unavailable"} <= reasons
    for route, wires in ASKED_OVER:
        for wire in wires:
            asked = f"{route.name}: {wire}sim"
            assert seen.statuses[f"{asked}-ok False"] == seen.statuses[f"{asked}-ok True"] == 200
            assert seen.statuses[f"{asked}-unauthorized False"] == 502
            assert f"You said: {PROMPT}" in seen.answers[f"{asked}-ok False"]
    for what, status in seen.statuses.items():
        if ": wide: " in what or ": carrying: " in what:
            assert status == 200, seen.answers[what]
    assert seen.statuses["OpenAI: falls back"] == seen.statuses["OpenAI: vectors of text-embedding-3-small"] == 200
    assert {seen.statuses[f"{what}: a bug"] for what in ("OpenAI: body", "responses", "messages")} == {500}
    assert seen.statuses["/v1/platform/usage?group_by=key"] == seen.statuses["/v1/models"] == 200
    assert seen.ledger.count("client_closed") >= 2
    assert "provider_auth_failed" in seen.ledger
    assert "gen_ai.usage.input_tokens" in seen.spans


def _secret_parts(keys: dict[str, str]) -> dict[str, str]:
    """Return the secret parts of a key: all after its public id, and each half of that."""
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
        **{f"key of {name}": key for name, key in PROVIDER_KEYS.items()},
        **{f"start of the key of {name}": key[:14] for name, key in PROVIDER_KEYS.items()},
        **{f"end of the key of {name}": key[-8:] for name, key in PROVIDER_KEYS.items()},
        **{f"key of {name} as providers show it": masked(key) for name, key in PROVIDER_KEYS.items()},
        "pepper": pepper,
        "header of the config file": HEADER,
        "database password": DATABASE_PASSWORD,
        "Redis password": REDIS_PASSWORD,
    }


def test_secret_is_never_in_a_response(seen: Seen, keys: dict[str, str], platform: Platform) -> None:
    found = [
        (name, what) for name, secret in _hidden(keys, platform).items() for what, text in seen.answers.items()
        if secret in text
    ]  # fmt: skip
    assert not found


@pytest.mark.parametrize("where", PLACES)
def test_secret_is_never_logged_or_exposed(seen: Seen, keys: dict[str, str], platform: Platform, where: str) -> None:
    text = getattr(seen, where)
    found = [name for name, secret in _hidden(keys, platform).items() if secret in text]
    assert not found


@pytest.mark.parametrize("where", PLACES)
def test_prompt_is_never_logged_or_exposed(seen: Seen, where: str) -> None:
    lines = getattr(seen, where).splitlines()
    assert not [line[:400] for line in lines if any(text in line for text in (PROMPT, NAMED, *CARRIED))]


def test_errors_do_not_repeat_the_prompt(seen: Seen) -> None:
    found = [
        what for what, text in seen.answers.items()
        if PROMPT in text and what in seen.statuses and seen.statuses[what] != 200
    ]  # fmt: skip
    assert not found


def test_traceback_is_never_in_a_response(seen: Seen) -> None:
    for what, text in seen.answers.items():
        for sign in ("Traceback", 'File "', ".py", "RuntimeError", "LookupError", "sqlalchemy", "api_key_secrets"):
            if what != "/openapi.json":
                assert sign not in text, (what, sign)
    assert "Traceback" not in seen.log
    assert "Traceback" not in seen.metrics


def test_unhandled_error_is_found_by_its_request_id(seen: Seen) -> None:
    head, _, body = seen.answers["body: a bug"].partition("\n\n")
    error = json.loads(body)["error"]
    assert set(error) == {"code", "message", "request_id"}
    assert error["code"] == "internal_error"
    assert f"x-request-id: {error['request_id']}" in head
    (line,) = [
        found for found in _lines(seen.log)
        if found["event"] == "unhandled_error" and found["request_id"] == error["request_id"]
    ]  # fmt: skip
    assert line["error"] == "RuntimeError"
    assert any("buggy_send" in place for place in line["error_at"])


def test_search_finds_a_planted_secret() -> None:
    """The searches above find each planted secret."""
    pepper = secrets.token_hex(32)
    platform = Platform({"PLATFORM_API_KEY_PEPPER": f"1:{pepper}"})
    key = generate_token("live").text
    provider_keys = " ".join(f"{key} {masked(key)}" for key in PROVIDER_KEYS.values())
    leak = f"{HEADER} {key} {provider_keys} {pepper} {DATABASE_PASSWORD} {REDIS_PASSWORD}"
    assert all(secret in leak and len(secret) >= 8 for secret in _hidden({"leaked": key}, platform).values())


def test_each_leak_of_the_planted_bug_is_logged(seen: Seen) -> None:
    """The searches above say nothing unless the bug's lines, warnings and exceptions reached the log."""
    lines = _lines(seen.log)
    events = {line["event"] for line in lines}
    assert {"python_warning", "library_call_failed", "call_failed", "config_reloaded", "near [masked]"} <= events
    assert {line["error"] for line in lines if "error" in line} >= {"KeyError", "InvalidURL", "StatementError"}
    assert [line for line in lines if line["event"] == "sending with [masked]"]
    where = " ".join(line["where"] for line in lines if line["event"] == "unhandled_exception")
    assert "thread" in where
    assert "destructor" in where
    of_asyncio = {line["event"] for line in lines if line["component"] == "asyncio"}
    assert "Task exception was never retrieved" in of_asyncio
    assert [event for event in of_asyncio if event.startswith("Exception in callback")]
    assert "most recent call first" in seen.log


def test_unhandled_error_is_logged_without_its_message(seen: Seen) -> None:
    """Many exceptions quote the value that they failed on; the log line must not contain it."""
    lines = [json.loads(line) for line in seen.log.splitlines() if '"KeyError"' in line]
    assert lines, "the bug was not met"
    assert not [line for line in lines if QUOTED in json.dumps(line)]
