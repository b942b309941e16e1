"""The wire format and the operation of each path.

OpenAI below `/v1`, Azure OpenAI below `/openai`, Anthropic below `/anthropic/v1`. `/openai/v1`, of Azure
too, is the same as `/v1`.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from urllib.parse import unquote

import orjson
from aiohttp import web

from apps.provider_simulator.faults.catalog import MODELS
from apps.provider_simulator.formats.anthropic_responses import MessageAnswer, counted_tokens
from apps.provider_simulator.formats.anthropic_wire import AnthropicWire
from apps.provider_simulator.formats.azure_wire import AzureChatAnswer, AzureWire
from apps.provider_simulator.formats.openai_chat import ChatAnswer
from apps.provider_simulator.formats.openai_wire import OpenAIWire
from apps.provider_simulator.formats.responses.response import ResponsesAnswer
from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.formats.responses.wire import ResponsesWire
from apps.provider_simulator.formats.wire import Problem, Wire
from apps.provider_simulator.model.embeddings import EmbeddingAnswer
from apps.provider_simulator.model.simulated_model import Answer

_CREATED = 1_735_689_600  # 2025-01-01, the creation date of every simulated model
_CREATED_AT = "2025-01-01T00:00:00Z"
_MODEL_OBJECTS = {
    name: {"id": name, "object": "model", "created": _CREATED, "owned_by": "provider-simulator"} for name in MODELS
}
_MODEL_LIST = orjson.dumps({"object": "list", "data": list(_MODEL_OBJECTS.values())})
_ANTHROPIC_MODELS = [
    {"type": "model", "id": name, "display_name": name, "created_at": _CREATED_AT} for name in MODELS
]  # fmt: skip
_ANTHROPIC_MODEL_LIST = orjson.dumps(
    {"data": _ANTHROPIC_MODELS, "has_more": False, "first_id": MODELS[0], "last_id": MODELS[-1]}
)
_AZURE_PATH = re.compile(r"/openai/deployments/([^/]+)/(chat/completions|embeddings)")
_RESPONSES_PATH = re.compile(r"/v1/responses/([^/]+)")
_AZURE_V1 = "/openai/v1/"
_OPENAI, _AZURE, _ANTHROPIC, _RESPONSES = OpenAIWire(), AzureWire(), AnthropicWire(), ResponsesWire()

Builder = Callable[[Mapping[str, object], int], Answer]


class RefusedError(Exception):
    """The request is refused before any fault applies."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.name)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The handler of a request. `build` raises InvalidRequestError or RefusedError. `model` is set if the path names
    it, and None if the body must."""

    wire: Wire
    build: Builder
    streams: bool = False
    model: str | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A fixed JSON response that is never streamed."""

    body: bytes
    before_text: int = 0
    after_text: int = 0

    def json(self) -> bytes:
        return self.body

    def events(self) -> list[bytes]:
        return []


def endpoint_of(request: web.BaseRequest, stored: ResponseStore) -> Endpoint:
    """Return the endpoint of a method and path, or one that refuses an unknown path."""
    method, path = request.method, request.path
    if path.startswith(_AZURE_V1):
        path = path.removeprefix("/openai")
    if path == "/v1/responses" and method == "POST":
        return Endpoint(_RESPONSES, partial(_respond, stored), streams=True)
    if (match := _RESPONSES_PATH.fullmatch(path)) and method in ("GET", "DELETE"):
        return Endpoint(_RESPONSES, partial(_stored, method, unquote(match[1]), stored), model="")
    fixed = _ENDPOINTS.get((method, path))
    if fixed is not None:
        betas = request.headers.get("anthropic-beta")
        return replace(fixed, build=partial(_message, betas=betas)) if fixed is _MESSAGES and betas else fixed
    if path.startswith("/openai/"):
        return _azure(request) or _nothing_at(_AZURE, request)
    if method == "GET" and path.startswith("/v1/models/"):
        return Endpoint(_OPENAI, partial(_one_model, unquote(path.removeprefix("/v1/models/"))), model="")
    return _nothing_at(_ANTHROPIC if path.startswith("/anthropic/") else _OPENAI, request)


def _azure(request: web.BaseRequest) -> Endpoint | None:
    match = _AZURE_PATH.fullmatch(request.raw_path.partition("?")[0])
    if match is None or request.method != "POST" or "api-version" not in request.query:
        return None
    chats = match[2] != "embeddings"
    return Endpoint(_AZURE, _azure_chat if chats else _embeddings, streams=chats, model=unquote(match[1]))


def _nothing_at(wire: Wire, request: web.BaseRequest) -> Endpoint:
    problem = Problem("unknown-url", message=f"Invalid URL ({request.method} {request.path})")

    def refuse(body: Mapping[str, object], serial: int) -> Answer:
        raise RefusedError(problem)

    return Endpoint(wire, refuse, model="")


def _chat(body: Mapping[str, object], serial: int) -> Answer:
    return ChatAnswer(body, serial, int(time.time()))


def _azure_chat(body: Mapping[str, object], serial: int) -> Answer:
    return AzureChatAnswer(body, serial, int(time.time()))


def _embeddings(body: Mapping[str, object], serial: int) -> Answer:
    return EmbeddingAnswer(body)


def _message(body: Mapping[str, object], serial: int, betas: str = "") -> Answer:
    return MessageAnswer(body, serial, betas)


def _respond(stored: ResponseStore, body: Mapping[str, object], serial: int) -> Answer:
    return ResponsesAnswer(body, serial, int(time.time()), stored)


def _stored(method: str, name: str, stored: ResponseStore, body: Mapping[str, object], serial: int) -> Answer:
    found = stored.get(name)
    if found is None:
        raise RefusedError(Problem("no-response", message=f"Response with id '{name}' not found."))
    if method == "GET":
        return _Prepared(orjson.dumps(found.response))
    stored.delete(name)
    return _Prepared(orjson.dumps({"id": name, "object": "response", "deleted": True}))


def _token_count(body: Mapping[str, object], serial: int) -> Answer:
    return _Prepared(counted_tokens(body))


def _one_model(name: str, body: Mapping[str, object], serial: int) -> Answer:
    if name not in _MODEL_OBJECTS:
        raise RefusedError(Problem("not-found", model=name))
    return _Prepared(orjson.dumps(_MODEL_OBJECTS[name]))


def _prepared(raw: bytes) -> Builder:
    answer = _Prepared(raw)
    return lambda body, serial: answer


_MESSAGES = Endpoint(_ANTHROPIC, _message, streams=True)
_ENDPOINTS: Mapping[tuple[str, str], Endpoint] = {
    ("POST", "/v1/chat/completions"): Endpoint(_OPENAI, _chat, streams=True),
    ("POST", "/v1/embeddings"): Endpoint(_OPENAI, _embeddings),
    ("GET", "/v1/models"): Endpoint(_OPENAI, _prepared(_MODEL_LIST), model=""),
    ("GET", "/openai/models"): Endpoint(_AZURE, _prepared(_MODEL_LIST), model=""),
    ("POST", "/anthropic/v1/messages"): _MESSAGES,
    ("POST", "/anthropic/v1/messages/count_tokens"): Endpoint(_ANTHROPIC, _token_count),
    ("GET", "/anthropic/v1/models"): Endpoint(_ANTHROPIC, _prepared(_ANTHROPIC_MODEL_LIST), model=""),
}
