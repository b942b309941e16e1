"""The routes on which a client asks for a chat: how each writes a request, and how each of its responses is read.

A test of a guarantee of all these routes is parametrised over `ROUTES` and is written once.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

MAX_TOKENS = 64
DONE = "[DONE]"


@dataclass(frozen=True, eq=False)
class ChatRoute:
    """One route and its format. Each is a constant, so it can be a key of a dictionary."""

    name: str
    path: str
    make_body: Callable[[str, int], dict[str, Any]]
    """Takes a prompt and the limit of output tokens, and returns a body."""
    text_of: Callable[[Mapping[str, Any]], str]
    """Returns the text of a whole response."""
    usage_of: Callable[[Mapping[str, Any]], tuple[int, int]]
    """Returns the tokens of the prompt and of the completion of a whole response."""
    code_of: Callable[[Mapping[str, Any]], str]
    """Returns the gateway's code of an error response, or of the error event of a stream."""
    ends: frozenset[str]
    """The types of the events that end a complete stream; `[DONE]` for a stream whose events have no type."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that every client of the format sends."""
    overloaded: int = 503
    """The status of an overload."""

    def body(self, text: str = "Hello, world", *, max_tokens: int = MAX_TOKENS, **fields: Any) -> dict[str, Any]:
        """Return a body with one prompt; `fields` are added, such as model and stream."""
        return {**self.make_body(text, max_tokens), **fields}

    def stream_text(self, raw: bytes) -> str:
        """Return the text of a stream's events."""
        return "".join(_delta_text(self.name, data) for data in stream_data(raw))

    def is_complete(self, raw: bytes) -> bool:
        """Return whether a stream ended as a success."""
        name, data = events_in(raw)[-1]
        return (data if data == DONE else json.loads(data).get("type", name)) in self.ends

    def stream_error(self, raw: bytes) -> str | None:
        """Return the code of the error with which a stream failed; None if it did not fail."""
        for name, data in events_in(raw):
            if data != DONE and (name == "error" or (not name and '"error"' in data)):
                body = json.loads(data)
                if isinstance(body.get("error"), dict):
                    return self.code_of(body)
        return None


def events_in(raw: bytes) -> list[tuple[str, str]]:
    """Return the name and the data of each event; comments are left out."""
    found = []
    for block in raw.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields.get("event", ""), fields["data"]))
    return found


def stream_data(raw: bytes) -> list[dict[str, Any]]:
    """Return the JSON of each event of a stream; `[DONE]` is left out."""
    return [json.loads(data) for _, data in events_in(raw) if data != DONE]


def _delta_text(name: str, data: Mapping[str, Any]) -> str:
    match name:
        case "chat":
            return "".join(choice["delta"].get("content") or "" for choice in data.get("choices", ()))
        case "responses":
            return str(data["delta"]) if data["type"] == "response.output_text.delta" else ""
        case "messages":
            return str(data["delta"].get("text", "")) if data["type"] == "content_block_delta" else ""
        case _:
            return str(data.get("content") or "")


def _chat(text: str, max_tokens: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": max_tokens}


def _openai_code(body: Mapping[str, Any]) -> str:
    return str(body["error"]["code"])


CHAT = ChatRoute(
    "chat",
    "/v1/chat/completions",
    _chat,
    lambda body: body["choices"][0]["message"]["content"],
    lambda body: (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]),
    _openai_code,
    frozenset({DONE}),
)
RESPONSES = ChatRoute(
    "responses",
    "/v1/responses",
    lambda text, max_tokens: {"input": text, "max_output_tokens": max_tokens},
    lambda body: "".join(
        part["text"] for item in body["output"] if item["type"] == "message" for part in item["content"]
    ),
    lambda body: (body["usage"]["input_tokens"], body["usage"]["output_tokens"]),
    _openai_code,
    frozenset({"response.completed", "response.incomplete"}),
)
MESSAGES = ChatRoute(
    "messages",
    "/v1/messages",
    _chat,
    lambda body: "".join(block["text"] for block in body["content"] if block["type"] == "text"),
    lambda body: (body["usage"]["input_tokens"], body["usage"]["output_tokens"]),
    lambda body: str(body["error"]["details"]["error_code"]),
    frozenset({"message_stop"}),
    {"anthropic-version": "2023-06-01"},
    529,
)
PLATFORM = ChatRoute(
    "platform",
    "/v1/platform/chat",
    _chat,
    lambda body: body["message"]["content"],
    lambda body: (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"]),
    _openai_code,
    frozenset({"done"}),
)
CLIENT_ROUTES = (CHAT, RESPONSES, MESSAGES)
"""The routes of the clients' own formats."""
ROUTES = (PLATFORM, *CLIENT_ROUTES)

over_client_routes = pytest.mark.parametrize("route", CLIENT_ROUTES, ids=lambda route: route.name)
over_routes = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
