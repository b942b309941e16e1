"""What an OpenAI client sends: checked only as far as the gateway must understand it, and forwarded as it is.

Unlike the platform's own contract this one is OpenAI's to define: fields that did not exist when this was written pass,
but for those that could choose another model, provider, address or price
(platform_app/llm/providers/openai/request_fields.py).
"""

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from apps.platform_api.http.body.json_body import require_json
from apps.platform_api.http.body.json_text import TextFacts, parse_json
from apps.platform_api.http.request_state import body_facts_of, body_of
from apps.platform_api.openai.azure_paths import deployment_of
from platform_app.errors import InvalidRequest, ValidationFailed
from platform_app.llm.providers.openai.request_fields import extra_fields
from platform_app.llm.requests import ModelRequest, Operation

MAX_MODEL_NAME = 256


@dataclass(frozen=True, slots=True)
class OpenAIBody:
    """A request in OpenAI's shape."""

    request: ModelRequest
    wants_usage: bool
    """Whether the client asked for the last chunk that counts the tokens."""


async def read_openai_body(request: Request, operation: Operation) -> OpenAIBody:
    """Return the request's body, checked as far as the gateway must understand it.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: the body is not a JSON object, or a field that the gateway reads is wrong; `param` names it.
    """
    require_json(request)
    raw = await body_of(request)
    return parse_openai_body(raw, operation, body_facts_of(request), deployment_of(request.scope))


def parse_openai_body(
    raw: bytes, operation: Operation, facts: TextFacts | None = None, deployment: str | None = None
) -> OpenAIBody:
    """Return the raw body as a request; see read_openai_body for the errors and parse_json for `facts`. A `deployment`
    from an Azure path replaces the body's model, as Azure does."""
    body = _object(raw, facts)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if deployment is not None:
        model = deployment
    if model is not None and (not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_NAME):
        raise _wrong("model", f"expected a text of 1 to {MAX_MODEL_NAME} characters")
    if stream is not None and not isinstance(stream, bool):
        raise _wrong("stream", "expected true or false")
    wants_usage = False
    if operation is Operation.CHAT:
        _check_messages(body.get("messages"))
        wants_usage = _wants_usage(body, bool(stream))
    else:
        _check_input(body)
        if stream:
            raise _wrong("stream", "embeddings are not streamed; leave it out")
    return OpenAIBody(ModelRequest(model, body, operation, bool(stream), extra_fields(body)), wants_usage)


def _object(raw: bytes, facts: TextFacts | None) -> dict[str, Any]:
    """The body, of which every value can be sent on as it is."""
    try:
        body = parse_json(raw, facts)
    except ValidationFailed as error:  # OpenAI's contract knows 400 alone
        raise _wrong_text(error) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def _wrong_text(error: ValidationFailed) -> InvalidRequest:
    details = error.details or [error.message]
    return InvalidRequest(f"{details[0]}.", param=details[0].partition(": ")[0])


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise _wrong("messages", "expected a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise _wrong(f"messages[{index}]", "expected an object with a role")


def _check_input(body: dict[str, Any]) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise _wrong("input", "expected a text, or a list of texts or of tokens, that is not empty")


def _wants_usage(body: dict[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise _wrong("stream_options", "expected an object")
    if not stream:
        raise _wrong("stream_options", 'is only for requests with "stream": true')
    return options.get("include_usage") is True


def _wrong(param: str, what: str) -> InvalidRequest:
    return InvalidRequest(f"{param}: {what}.", param=param)
