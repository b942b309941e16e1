"""Smoke checks that call a model: the platform's contract, its stream, OpenAI's contract, embeddings."""

from collections.abc import Mapping
from typing import Any

import httpx
import openai
import orjson
from openai.types.chat import ChatCompletion

from apps.platform_cli.smoke.result import CheckFailed, CheckSkipped
from apps.platform_cli.smoke.session import (
    CHAT_PATH,
    PROMPT,
    SmokeSession,
    json_object,
    shown,
    skip_if_forbidden,
    why_no_response,
)

LIMIT_HEADERS = ("ratelimit-policy", "ratelimit", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests")
_REMEDIES: Mapping[int, str] = {
    401: "Check --key: the gateway does not know it, or it was revoked or has expired.",
    403: "Use a key with the scope platform:chat that may use this model.",
    404: "Check --model against GET /v1/models.",
    429: "The key is over its limit: wait, or use a key for smoke checks with its own limit.",
    502: "The provider failed: run `flowbiz-platform check` on the gateway; it makes one call to each provider.",
    503: "A dependency is missing: run `flowbiz-platform check` on the gateway.",
    504: "The provider did not respond in time: run `flowbiz-platform check` on the gateway.",
}
_MAX_DATA = 200
_READ_LOG = "Find the request's X-Request-ID in the gateway's log."


async def chat(smoke: SmokeSession) -> str:
    """POST /v1/platform/chat returns a model's response with usage."""
    response = await smoke.post(CHAT_PATH, _chat_body(smoke), {**smoke.authorization, **smoke.sampled})
    body = json_object(response)
    usage = body.get("usage")
    if response.status_code != 200 or body.get("status") != "ok" or not isinstance(usage, dict):
        remedy = _remedy(response.status_code)
        if response.status_code == 503 and smoke.ready:
            remedy = f"Readiness does not see this: GET /readyz was 200. {remedy}"
        raise CheckFailed(f"200 with status ok and usage from POST {CHAT_PATH}", shown(response), remedy)
    if not body.get("output") or not usage.get("total_tokens"):
        received = f"output {body.get('output')!r}, {usage.get('total_tokens')} tokens"
        raise CheckFailed("a response with a text and a count of tokens", received, _READ_LOG)
    _check_model(smoke.options.model, body.get("model"))
    smoke.chat_headers, smoke.chat_body = response.headers, body
    return f"model {body.get('model')}, {usage.get('total_tokens')} tokens, {body.get('duration_ms')} ms"


async def limit_headers(smoke: SmokeSession) -> str:
    """The chat response has the headers with the client's limits."""
    if smoke.chat_headers is None:
        raise CheckSkipped("the chat check has no successful response")
    if missing := [name for name in LIMIT_HEADERS if name not in smoke.chat_headers]:
        raise CheckFailed(
            f"the headers {', '.join(LIMIT_HEADERS)} on the chat response",
            f"a response without {', '.join(missing)}",
            "Add a rule to rate_limits in the config file, or let the proxy in front pass these headers.",
        )
    return f"RateLimit: {smoke.chat_headers['ratelimit']}"


async def stream(smoke: SmokeSession) -> str:
    """A streamed chat sends `delta` events and ends with one `done` event."""
    expected = "text/event-stream with delta events and a last event done"
    body = {**_chat_body(smoke), "stream": True}
    async with smoke.stream(CHAT_PATH, body, smoke.authorization) as response:
        content_type = response.headers.get("content-type", "")
        if response.status_code != 200 or not content_type.startswith("text/event-stream"):
            await response.aread()
            raise CheckFailed(expected, f"{shown(response)} ({content_type})", _remedy(response.status_code))
        events, last_data, ended = await _read_events(smoke, response)
    if not events or events[-1] != "done" or "delta" not in events or ended:
        received = f"{_events(events)}{ended}" + (f": {last_data}" if events[-1:] == ["error"] else "")
        raise CheckFailed(expected, received, "A proxy in front may cut or rewrite streams; else " + _READ_LOG)
    return _events(events)


async def _read_events(smoke: SmokeSession, response: httpx.Response) -> tuple[list[str], str, str]:
    """Return the events' names, the last event's data, and how the connection ended if it did not end well."""
    events: list[str] = []
    data = ""
    smoke.progress = _events(events)
    try:
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                events.append(line.removeprefix("event: "))
                smoke.progress = _events(events)
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")[:_MAX_DATA]
    except httpx.HTTPError as error:
        return events, data, f", then {why_no_response(error, '--base-url').cause}"
    return events, data, ""


def _events(events: list[str]) -> str:
    return f"{len(events)} events, the last one {events[-1] if events else 'missing'}"


async def openai_client(smoke: SmokeSession) -> str:
    """The official OpenAI client completes a chat against /v1/chat/completions with only base_url and key changed."""
    model = smoke.options.model or (smoke.chat_body or {}).get("model")
    if not model:
        raise CheckSkipped("no model is known: the chat check failed; name one with --model")
    expected = "a chat completion with content and usage from POST /v1/chat/completions"
    try:
        completion = await smoke.openai.chat.completions.create(
            model=model, messages=[{"role": "user", "content": PROMPT}]
        )
    except openai.OpenAIError as error:
        raise _openai_failure(expected, error) from None
    if problem := _completion_problem(completion):
        raise CheckFailed(expected, problem, "Check that --base-url ends before /v1 and is not another service's.")
    _check_model(model, completion.model)
    usage = completion.usage
    return f"openai {openai.__version__}: model {completion.model}, {usage.total_tokens if usage else 0} tokens"


async def embeddings(smoke: SmokeSession) -> str:
    """The official OpenAI client gets a vector from /v1/embeddings, if this key may use an embedding model."""
    model = smoke.options.embedding_model or await _embedding_model(smoke)
    expected = "one vector from POST /v1/embeddings"
    try:
        found = await smoke.openai.embeddings.create(model=model, input=PROMPT, encoding_format="float")
    except openai.PermissionDeniedError as error:
        raise CheckSkipped(f"the key may not create embeddings: {_words(error)}") from None
    except openai.OpenAIError as error:
        raise _openai_failure(expected, error) from None
    vectors = [each.embedding for each in getattr(found, "data", None) or []]
    if len(vectors) != 1 or not vectors[0]:
        raise CheckFailed(expected, f"{len(vectors)} vectors", _READ_LOG)
    _check_model(model, found.model)
    return f"model {model}, a vector of {len(vectors[0])} numbers"


async def _embedding_model(smoke: SmokeSession) -> str:
    response = await smoke.get("/v1/models", authenticated=True)
    skip_if_forbidden(response.status_code, "platform:models:read, which lists the models; name one: --embedding-model")
    if response.status_code != 200:
        raise CheckFailed("200 from GET /v1/models", shown(response), _remedy(response.status_code))
    models = json_object(response).get("data") or []
    names = [str(each["id"]) for each in models if each.get("kind") == "embedding"]
    if not names:
        raise CheckSkipped("no model of kind embedding is allowed for this key")
    return names[0]


def _check_model(requested: str | None, received: object) -> None:
    """Raise CheckFailed if the response is from another model than the requested one."""
    if requested is not None and received != requested:
        raise CheckFailed(
            f"a response of the model {requested}",
            f"a response of the model {received}",
            "Send no traffic here: a cache or router in front mixes responses, or the config file is the wrong one.",
        )


def _chat_body(smoke: SmokeSession) -> dict[str, Any]:
    model = {} if smoke.options.model is None else {"model": smoke.options.model}
    return {"prompt": PROMPT, **model}


def _completion_problem(completion: ChatCompletion) -> str | None:
    """Return what a completion lacks. The client validates nothing, so any part may be missing."""
    choices = getattr(completion, "choices", None)
    if not choices:
        return "a response without choices"
    message = choices[0].message
    if message is None or message.content is None:
        return "a choice without content"
    return None if completion.usage else "a completion without usage"


def _openai_failure(expected: str, error: openai.OpenAIError) -> CheckFailed:
    status = error.status_code if isinstance(error, openai.APIStatusError) else 0
    return CheckFailed(expected, _words(error), _remedy(status))


def _words(error: openai.OpenAIError) -> str:
    """Describe an error of the client in one line."""
    if isinstance(error, openai.APIStatusError):
        return _status_words(error)
    if isinstance(error, openai.APIConnectionError):
        return f"no response: {why_no_response(error, '--base-url').cause}"
    return f"{type(error).__name__}: {error}"


def _status_words(error: openai.APIStatusError) -> str:
    """Describe the error response that the client raised."""
    body = error.body if isinstance(error.body, dict) else {}
    text = f"{body.get('code')}: {body.get('message')}" if body else orjson.dumps(str(error)).decode()
    return f"{error.status_code} {text}"


def _remedy(status: int) -> str:
    return _REMEDIES.get(status, _READ_LOG)
