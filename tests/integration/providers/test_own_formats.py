"""What passes between a client and a provider of the same format: the format's headers, and stored responses."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from openai import AsyncOpenAI

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PATIENT, PROVIDER_KEY, Platform
from tests.support.gateway.chat_routes import CHAT, MESSAGES, RESPONSES, ChatRoute
from tests.support.gateway.http import connect
from tests.support.gateway.process import Gateway
from tests.support.providers.failover.faulty_provider import TEXT, Call, FaultyProvider

COUNT_TOKENS = "/v1/messages/count_tokens"
DEFAULT_VERSION = "2023-06-01"
ODD = 'context-1m-2025-08-07,,  odd;q=0.5 , "quoted, text"\t=/+~!'
LONG = ",".join(f"beta-{number}-2026-01-01" for number in range(200))
OTHERS = {
    "cookie": "session=theirs",
    "user-agent": "claude-cli/9.9 (theirs)",
    "accept-language": "theirs",
    "anthropic-dangerous-direct-browser-access": "true-theirs",
    "anthropic-of-tomorrow": "theirs",
    "openai-beta": "theirs",
    "openai-organization": "theirs",
    "x-stainless-lang": "theirs",
    "x-claude-code-session-id": "theirs",
    "x-session-id": "theirs",
    "x-forwarded-for": "203.0.113.7",
    "forwarded": "for=203.0.113.7",
    "x-goog-api-key": "theirs",
    "proxy-authorization": "Basic theirs",
    "baggage": "theirs=1",
    "origin": "https://theirs.example",
}
"""Headers of a client that no provider gets."""
SENT = {
    "host",
    "accept",
    "accept-encoding",
    "content-type",
    "content-length",
    "user-agent",
    "traceparent",
    "connection",
}
"""Headers that the gateway may send to each provider."""
_numbers = itertools.count(1)
CREDENTIAL = {"openai": "authorization", "openai-responses": "authorization", "anthropic": "x-api-key"}


async def _count(call: Call) -> None:
    await call.respond(200, {"input_tokens": 5})


async def _overloaded(call: Call) -> None:
    await call.respond(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}})


@pytest.fixture(scope="module")
async def recorder() -> AsyncIterator[FaultyProvider]:
    """A provider of all formats on a raw socket, which keeps the bytes of each head."""
    async with FaultyProvider({"counts": _count, "overloaded": _overloaded}) as running:
        yield running


def _config(simulator: ProviderSimulator, recorder: FaultyProvider, *stored: str) -> str:
    """Return the config file. `stored`: the models whose provider stores responses."""
    secret = {"api_key_secret": "OPENAI_API_KEY"}
    recorded = {wire: {"wire_format": wire, "base_url": recorder.url_of(wire), **secret} for wire in CREDENTIAL}
    keeper = {"wire_format": "openai-responses", "base_url": simulator.base_url, "stores_responses": True, **secret}
    models = {
        **{wire: [{"provider": wire, "model": "m"}] for wire in CREDENTIAL},
        "falls-back": [{"provider": "anthropic", "model": "overloaded"}, {"provider": "anthropic", "model": "m"}],
        "counts": [{"provider": "anthropic", "model": "counts"}],
        **{name: [{"provider": "keeper", "model": f"sim-ok@{name}"}] for name in stored},
        "several": [{"provider": name, "model": f"sim-ok@{name}", "weight": 1} for name in ("keeper", "keeper-two")],
    }
    return yaml.safe_dump(
        {
            "providers": {**recorded, "keeper": keeper, "keeper-two": keeper},
            "models": {name: {"routes": routes} for name, routes in models.items()},
            "rate_limits": GENEROUS,
            "policies": PATIENT,
        }
    )


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("own-formats") / "platform.yaml"


@pytest.fixture(scope="module")
def own(
    platform: Platform, simulator: ProviderSimulator, recorder: FaultyProvider, config_file: Path
) -> Iterator[Gateway]:
    config_file.write_text(_config(simulator, recorder, "keeps", "leaves"))
    changed = {"PLATFORM_CONFIG_FILE": str(config_file), "PLATFORM_DEFAULT_MODEL": "keeps"}
    with Gateway({**platform.environment, **changed}, config_file.parent) as running:
        yield running


async def _sent_on(
    gateway: Gateway, recorder: FaultyProvider, path: str, body: Mapping[str, Any], lines: list[tuple[str, str]]
) -> list[dict[str, list[str]]]:
    """Send a request with these header lines, and return the headers that the provider got with each attempt."""
    recorder.reset()
    content = json.dumps(body)
    head = [
        ("Host", "gateway"), ("Content-Type", "application/json"), ("Content-Length", str(len(content))),
        ("Idempotency-Key", f"theirs-{next(_numbers)}"),
    ]  # fmt: skip
    text = "".join(f"{name}: {value}\r\n" for name, value in (*head, *lines))
    async with connect(gateway) as connection:
        await connection.send(f"POST {path} HTTP/1.1\r\n{text}\r\n{content}".encode())
        status = await connection.reader.readuntil(b"\r\n")
        assert b" 200 " in status, status
        if body.get("stream"):
            await connection.reader.readuntil(TEXT.split()[-1].encode())
    return [_headers(attempt.head) for attempt in recorder.attempts]


def _headers(head: bytes) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


def _check_only_ours(headers: Mapping[str, list[str]], wire: str, key: str) -> None:
    """Check that each header is the gateway's own, and that the credential is the provider's."""
    of_wire = {CREDENTIAL[wire]} | ({"anthropic-version", "anthropic-beta"} if wire == "anthropic" else set())
    assert set(headers) <= SENT | of_wire
    assert PROVIDER_KEY in headers[CREDENTIAL[wire]][0]
    assert key not in str(headers)
    assert "theirs" not in str(headers)
    assert "203.0.113.7" not in str(headers)


BETAS = {
    "one": [("anthropic-beta", "interleaved-thinking-2025-05-14")],
    "commas and odd characters": [("anthropic-beta", ODD)],
    "long": [("anthropic-beta", LONG)],
    "several lines": [("anthropic-beta", "a-1"), ("Anthropic-Beta", "b-2, c-3"), ("ANTHROPIC-BETA", LONG)],
    "around spaces": [("anthropic-beta", "  a-1  ")],
    "version of tomorrow": [("Anthropic-Version", "2031-12-24"), ("anthropic-beta", "a-1")],
    "neither": [],
}


@pytest.mark.parametrize("credential", ["authorization", "x-api-key"])
@pytest.mark.parametrize("betas", BETAS)
async def test_headers_of_messages_reach_anthropic_unchanged(
    own: Gateway, recorder: FaultyProvider, chat_key: str, betas: str, credential: str
) -> None:
    """Several lines of one header become one line, in their order; no other header of the client is sent."""
    key = [(credential, f"Bearer {chat_key}" if credential == "authorization" else chat_key)]
    body = MESSAGES.body("Hello", model="anthropic", stream=betas == "long")
    [headers] = await _sent_on(own, recorder, MESSAGES.path, body, [*key, *BETAS[betas], *OTHERS.items()])
    _check_only_ours(headers, "anthropic", chat_key)
    given = {
        name: ",".join(value.strip() for each, value in BETAS[betas] if each.lower() == name)
        for name in ("anthropic-version", "anthropic-beta")
    }
    assert headers["anthropic-version"] == [given["anthropic-version"] or DEFAULT_VERSION]
    assert headers.get("anthropic-beta", []) == ([given["anthropic-beta"]] if given["anthropic-beta"] else [])


async def test_headers_of_messages_reach_each_attempt(own: Gateway, recorder: FaultyProvider, chat_key: str) -> None:
    lines = [("x-api-key", chat_key), ("anthropic-version", "2031-12-24"), ("anthropic-beta", ODD), *OTHERS.items()]
    body = MESSAGES.body("Hello", model="falls-back")
    attempts = await _sent_on(own, recorder, MESSAGES.path, body, lines)
    counted = {name: value for name, value in body.items() if name != "max_tokens"} | {"model": "counts"}
    attempts += await _sent_on(own, recorder, COUNT_TOKENS, counted, lines)
    assert len(attempts) == 3
    for headers in attempts:
        _check_only_ours(headers, "anthropic", chat_key)
        assert (headers["anthropic-version"], headers["anthropic-beta"]) == (["2031-12-24"], [ODD])


OTHER_PAIRS = [(route, wire) for route in (CHAT, RESPONSES, MESSAGES) for wire in CREDENTIAL]
OTHER_PAIRS.remove((MESSAGES, "anthropic"))


@pytest.mark.parametrize(
    ("route", "wire"), [pytest.param(*pair, id=f"{pair[0].name}-{pair[1]}") for pair in OTHER_PAIRS]
)
async def test_other_pairs_forward_no_header(
    own: Gateway, recorder: FaultyProvider, chat_key: str, route: ChatRoute, wire: str
) -> None:
    """Anthropic gets the configured version then, and other providers neither of the two headers."""
    lines = [("Authorization", f"Bearer {chat_key}"), ("anthropic-version", "2031-12-24"), ("anthropic-beta", "a-1")]
    [headers] = await _sent_on(own, recorder, route.path, route.body("Hi", model=wire), [*lines, *OTHERS.items()])
    _check_only_ours(headers, wire, chat_key)
    assert headers.get("anthropic-version") == ([DEFAULT_VERSION] if wire == "anthropic" else None)
    assert "anthropic-beta" not in headers


@pytest.mark.parametrize("name", ["anthropic-version", "anthropic-beta"])
async def test_header_that_cannot_be_forwarded_is_refused(
    own: Gateway, recorder: FaultyProvider, client: httpx.AsyncClient, chat_key: str, name: str
) -> None:
    recorder.reset()
    headers = [(b"x-api-key", chat_key.encode()), (name.encode(), "caf\u00e9".encode("latin-1"))]
    response = await client.post(own.base_url + MESSAGES.path, headers=headers, json=MESSAGES.body(model="anthropic"))
    assert (response.status_code, response.json()["error"]["type"]) == (400, "invalid_request_error")
    assert name in response.json()["error"]["message"]
    assert recorder.attempts == []


def _sdk(gateway: Gateway, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.base_url}/v1", api_key=key, max_retries=0)


@pytest.mark.parametrize("model", ["keeps", "several"])
@pytest.mark.parametrize("stream", [False, True], ids=["json", "stream"])
async def test_stored_response_is_continued_read_and_deleted(
    own: Gateway, chat_key: str, simulator: ProviderSimulator, model: str, stream: bool
) -> None:
    """With the official client. The provider's own ids never reach the client, and each turn goes to the provider that
    stores the turn before."""
    before = {name: simulator.count(f"sim-ok@{name}") for name in ("keeper", "keeper-two")}
    async with _sdk(own, chat_key) as client:

        async def ask(**fields: Any) -> Any:
            if not stream:
                return await client.responses.create(model=model, store=True, **fields)
            async with client.responses.stream(model=model, store=True, **fields) as events:
                return await events.get_final_response()

        turns = [await ask(input=f"Turn of {model} {stream}")]
        for number in range(4):
            turns.append(await ask(input=f"And {number}?", previous_response_id=turns[-1].id))
            assert turns[-1].output_text == f"You said: And {number}?"
            assert turns[-1].previous_response_id == turns[-2].id
        read = await client.responses.retrieve(turns[-1].id)
        assert (read.id, read.model, read.output_text) == (turns[-1].id, model, turns[-1].output_text)
        assert read.previous_response_id is not None
        assert (await client.responses.retrieve(read.previous_response_id)).output_text == turns[-2].output_text
        await client.responses.delete(turns[0].id)
        for again in (client.responses.retrieve(turns[0].id), client.responses.delete(turns[0].id)):
            with pytest.raises(openai.NotFoundError):
                await again
        with pytest.raises(openai.APIStatusError) as caught:
            await ask(input="And?", previous_response_id=turns[0].id)
        assert caught.value.status_code in (400, 404)
    if model == "several":
        grown = [simulator.count(f"sim-ok@{name}") - count for name, count in before.items()]
        assert sorted(grown)[0] == 0, "a turn went to a provider that does not store the session"


async def _refusals(client: httpx.AsyncClient, gateway: Gateway, key: str, given: str) -> list[tuple[int, Any]]:
    """Return how GET, DELETE, and a request that continues the response are refused."""
    url, headers = f"{gateway.base_url}{RESPONSES.path}", {"Authorization": f"Bearer {key}"}
    body = RESPONSES.body("And?", model="keeps", previous_response_id=given)
    responses = [
        await client.get(f"{url}/{given}", headers=headers),
        await client.delete(f"{url}/{given}", headers=headers),
        await client.post(url, headers=headers, json=body),
    ]
    errors = [response.json()["error"] for response in responses]
    for error, response in zip(errors, responses, strict=True):
        assert error.pop("request_id") == response.headers["x-request-id"]
    return [(response.status_code, error) for response, error in zip(responses, errors, strict=True)]


async def _stored(client: httpx.AsyncClient, gateway: Gateway, key: str, model: str) -> str:
    response = await client.post(
        gateway.base_url + RESPONSES.path, headers={"Authorization": f"Bearer {key}"},
        json=RESPONSES.body("Remember this", model=model, store=True),
    )  # fmt: skip
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def test_stored_response_of_another_owner_does_not_exist(
    own: Gateway, client: httpx.AsyncClient, platform: Platform, simulator: ProviderSimulator
) -> None:
    """Another key of the owner may use the response. A key of another owner gets what it gets for any unknown id."""
    first, second = platform.key(owner="owner-a"), platform.key(owner="owner-a")
    other = platform.key("platform:*", owner="owner-b")
    given = await _stored(client, own, first, "keeps")
    calls = simulator.count("sim-ok@keeps")
    unknown = await _refusals(client, own, other, "resp_0123456789abcdef")
    assert await _refusals(client, own, other, given) == unknown
    assert {status for status, _ in unknown} == {404}
    assert simulator.count("sim-ok@keeps") == calls
    read = await client.get(f"{own.base_url}{RESPONSES.path}/{given}", headers={"Authorization": f"Bearer {second}"})
    assert (read.status_code, read.json()["id"]) == (200, given)


async def test_stored_response_of_removed_model_is_not_found(
    own: Gateway, client: httpx.AsyncClient, chat_key: str, config_file: Path, simulator: ProviderSimulator,
    recorder: FaultyProvider,
) -> None:  # fmt: skip
    """The operator removes the model that made a response, while the gateway runs."""
    given = await _stored(client, own, chat_key, "leaves")
    kept = await _stored(client, own, chat_key, "keeps")
    await asyncio.to_thread(config_file.write_text, _config(simulator, recorder, "keeps"))
    url, headers = f"{own.base_url}{RESPONSES.path}", {"Authorization": f"Bearer {chat_key}"}
    async with asyncio.timeout(300):
        while (await client.get(f"{url}/{given}", headers=headers)).status_code == 200:
            await asyncio.sleep(0.1)
    assert {status for status, _ in await _refusals(client, own, chat_key, given)} <= {400, 404}
    assert (await client.get(f"{url}/{kept}", headers=headers)).status_code == 200
