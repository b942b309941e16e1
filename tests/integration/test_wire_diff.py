"""The same requests sent to a provider directly and through the gateway: what reached it and what came back are equal
but for what docs/http.md lists."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.provider_simulator.record import RequestRecord
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import GENEROUS, PATIENT, PROVIDER_KEY, Platform
from tests.support.gateway import Gateway, write_config
from tests.support.wire_shapes import CHAT, EMBEDDINGS, MODEL, REFUSED, SHAPES, Shape

ROOT = Path(__file__).resolve().parents[2]
HTTP = (ROOT / "docs" / "http.md").read_text()
ALIAS = "wire-alias"
ALL = {**SHAPES, **REFUSED}
BODIES = {name: shape.body(shape.model) for name, shape in ALL.items()}


def documented(header: str) -> set[str]:
    """The names in the first column of this table of docs/http.md."""
    _, found, rest = HTTP.partition(f"{header}\n")
    assert found, header
    rows = rest.split("\n\n")[0].splitlines()[1:]
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])}


SENT_FIELDS = documented("| Field of the request | What reaches the provider |")
SENT_HEADERS = documented("| Header that reaches the provider | Whose |")
ANSWER_FIELDS = documented("| Field of the answer | What differs |")
ERROR_FIELDS = documented("| Field of a refusal | What differs |")
ANSWER_HEADERS = documented("| Header of the answer | Whose |")


@dataclass(frozen=True)
class Exchange:
    """One request, as the provider saw it, and its answer."""

    record: RequestRecord
    response: httpx.Response

    @property
    def sent(self) -> list[tuple[str, Any]]:
        """The members of what reached the provider, in order, and everything below them in order too."""
        assert self.record.body is not None
        pairs: list[tuple[str, Any]] = json.loads(self.record.body, object_pairs_hook=list)
        return pairs

    @property
    def answer(self) -> bytes:
        """The answer without what is new each time."""
        text = re.sub(rb"sim\d{12}\b", b"sim#", self.response.content)
        return re.sub(rb'"created":\d+', b'"created":0', text)


@dataclass(frozen=True)
class Pair:
    """Both ways to one provider."""

    client: httpx.AsyncClient
    simulator: ProviderSimulator
    gateway: Gateway
    key: str

    async def direct(self, shape: Shape) -> Exchange:
        return await self._ask(self.simulator.base_url, PROVIDER_KEY, shape, shape.model)

    async def through(self, shape: Shape, model: str | None = None) -> Exchange:
        return await self._ask(f"{self.gateway.base_url}/v1", self.key, shape, model or shape.model)

    async def _ask(self, base_url: str, key: str, shape: Shape, model: str) -> Exchange:
        before = self.simulator.count(shape.model)
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            "OpenAI-Organization": "org-of-the-caller",
            "X-Stainless-Lang": "python",
            "Cookie": "a=b",
        }
        body = shape.body(model).replace(f'"model" : "{MODEL}"'.encode(), f'"model" : "{model}"'.encode())
        response = await self.client.post(base_url + shape.path, content=body, headers=headers)
        assert self.simulator.count(shape.model) == before + 1
        return Exchange(self.simulator.requests(shape.model)[-1], response)


@pytest.fixture(scope="module")
def wired(
    platform: Platform, simulator: ProviderSimulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that serves one model under its own name and under another one."""
    directory = tmp_path_factory.mktemp("wire")
    models = {shape.model: shape.model for shape in ALL.values()} | {ALIAS: MODEL}
    config = write_config(
        directory / "platform.yaml", simulator.base_url, models, rate_limits=GENEROUS, policies=PATIENT
    )
    own = {"PLATFORM_CONFIG_FILE": str(config), "PLATFORM_DEFAULT_MODEL": MODEL}
    with Gateway({**platform.environment, **own}, directory) as running:
        yield running


@pytest.fixture(scope="module")
def key(platform: Platform) -> str:
    return platform.key("platform:chat", "platform:embeddings")


@pytest.fixture
def pair(client: httpx.AsyncClient, simulator: ProviderSimulator, wired: Gateway, key: str) -> Pair:
    return Pair(client, simulator, wired, key)


def test_there_are_enough_and_no_two_are_the_same() -> None:
    assert len(SHAPES) >= 30
    assert len(set(BODIES.values())) == len(ALL)
    for body in BODIES.values():
        json.loads(body)


@pytest.mark.parametrize("name", SHAPES)
async def test_request_and_answer_are_the_same(pair: Pair, name: str) -> None:
    shape = SHAPES[name]
    direct, through = await pair.direct(shape), await pair.through(shape)

    _same_request(direct, through)
    assert through.response.status_code == direct.response.status_code == 200
    assert through.answer == direct.answer
    _same_headers(direct, through)


@pytest.mark.parametrize("name", SHAPES)
async def test_under_an_alias_the_models_name_differs_and_nothing_else(pair: Pair, name: str) -> None:
    shape = SHAPES[name]
    direct, through = await pair.direct(shape), await pair.through(shape, ALIAS)

    _same_request(direct, through)
    assert direct.answer.count(f'"model":"{MODEL}"'.encode()) >= 1
    assert through.answer == direct.answer.replace(f'"model":"{MODEL}"'.encode(), f'"model":"{ALIAS}"'.encode())
    assert "model" in ANSWER_FIELDS


@pytest.mark.parametrize("name", REFUSED)
async def test_a_refusal_is_the_providers_too(pair: Pair, name: str) -> None:
    shape = REFUSED[name]
    direct, through = await pair.direct(shape), await pair.through(shape)

    _same_request(direct, through)
    assert through.response.status_code == direct.response.status_code == 400
    theirs, ours = direct.response.json()["error"], through.response.json()["error"]
    assert ours.keys() == theirs.keys()
    assert {field for field in theirs if ours[field] != theirs[field]} <= ERROR_FIELDS == {"message", "code"}
    assert theirs["param"], "the field is what a program goes by"
    assert theirs["message"] in ours["message"]
    _same_headers(direct, through)


def _same_request(direct: Exchange, through: Exchange) -> None:
    """But for the fields that the page lists, and those exactly as it says."""
    assert direct.record.path == through.record.path
    own, sent = direct.sent, through.sent
    assert [pair for pair in sent if pair[0] not in SENT_FIELDS] == [pair for pair in own if pair[0] not in SENT_FIELDS]
    assert {"model", "stream", "stream_options"} == SENT_FIELDS
    before, after = dict(own), dict(sent)
    assert len(after) == len(sent), "a member twice"
    assert after["model"] == MODEL if direct.record.model == MODEL else after["model"] == before["model"]
    assert after.get("stream") == (True if before.get("stream") else None)
    if before.get("stream"):
        asked = dict(before.get("stream_options") or {})
        assert dict(after["stream_options"]) == {**asked, "include_usage": True}
    else:
        assert "stream_options" not in after
    assert set(through.record.header_names) == SENT_HEADERS
    assert through.record.credential == direct.record.credential


def _same_headers(direct: Exchange, through: Exchange) -> None:
    assert through.response.headers["content-type"] == direct.response.headers["content-type"]
    assert set(through.response.headers) <= ANSWER_HEADERS
    assert through.response.headers["x-request-id"] != direct.response.headers["x-request-id"]


async def test_the_page_lists_no_header_that_never_comes(pair: Pair) -> None:
    headers: set[str] = set()
    for name in ("plain", "streamed"):
        headers |= set((await pair.through(SHAPES[name])).response.headers)
    assert headers == ANSWER_HEADERS


async def test_the_fields_that_the_gateway_asks_for_reach_only_who_asked(pair: Pair) -> None:
    """Both ways the provider's last chunk counts the tokens, which the ledger needs; who did not ask never sees it."""
    asked = await pair.through(SHAPES["streamed, with usage"])
    silent = await pair.through(SHAPES["streamed"])
    assert asked.response.text.count('"usage":null') >= 3
    assert asked.response.text.count('"usage":{') == 1
    assert '"usage"' not in silent.response.text
    assert silent.response.text.endswith("data: [DONE]\n\n")
    assert "usage" in ANSWER_FIELDS


UNFIT = {
    "nothing": (b"", None),
    "white space": (b" \n", None),
    "half of it": (b'{"model": "sim-ok@wire", "messages": [', None),
    "a list": (b"[]", None),
    "not a number": (b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "temperature": NaN}', None),
    "infinite": (b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "temperature": 1e999}', None),
    "invalid UTF-8": (b'{"model": "sim-ok@wire", "messages": [{"role": "user", "content": "\xff"}]}', None),
    "half of a surrogate pair": (
        b'{"model": "sim-ok@wire", "messages": [{"role": "user", "content": "\\udc00"}]}', "messages[0].content"
    ),
    "an integer of 65 bits": (
        b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "metadata": {"id": 18446744073709551616}}',
        "metadata.id",
    ),
    "a negative one": (
        b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "seed": -9223372036854775809}', "seed"
    ),
    "deeper than can be written": (
        b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "a": %b%b}' % (b"[" * 300, b"]" * 300), None
    ),
    "as deep as a bomb": (b'{"a":' * 100_000, None),
    "no messages": (b'{"model": "sim-ok@wire"}', "messages"),
    "a stream that is a text": (b'{"model": "sim-ok@wire", "messages": [{"role": "user"}], "stream": "yes"}', "stream"),
}  # fmt: skip
"""Bodies that nobody could pass on as they are, and the field that is named."""


@pytest.mark.parametrize("name", UNFIT)
async def test_what_cannot_be_passed_on_is_refused_by_name(pair: Pair, name: str) -> None:
    body, param = UNFIT[name]
    before = pair.simulator.count(MODEL)
    headers = {"Authorization": f"Bearer {pair.key}", "Content-Type": "application/json"}
    response = await pair.client.post(f"{pair.gateway.base_url}/v1{CHAT}", content=body, headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["type"]) == (400, "invalid_request", "invalid_request_error")
    assert error["param"] == param
    assert pair.simulator.count(MODEL) == before


@pytest.mark.parametrize("path", [CHAT, EMBEDDINGS])
@pytest.mark.parametrize("content_type", [None, "text/plain", "multipart/form-data; boundary=x"])
async def test_another_content_type_is_refused(pair: Pair, path: str, content_type: str | None) -> None:
    headers = {"Authorization": f"Bearer {pair.key}"} | ({"Content-Type": content_type} if content_type else {})
    response = await pair.client.post(f"{pair.gateway.base_url}/v1{path}", content=BODIES["plain"], headers=headers)
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["param"]) == (415, "unsupported_media_type", None)


async def test_of_two_members_of_one_name_the_provider_gets_the_one_that_was_checked(pair: Pair) -> None:
    """Else a key could be held to one model and get another."""
    shape = Shape('"messages":[{"role":"user","content":"Hello"}],"model":"' + ALIAS + '"', head='"model":"other",')
    exchange = await pair.through(shape)
    assert exchange.response.status_code == 200
    assert [value for name, value in exchange.sent if name == "model"] == [MODEL]
