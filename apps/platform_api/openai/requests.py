"""Read a request of OpenAI's contract. Only the parts that the gateway uses are checked; the body is forwarded
unchanged.

Unknown fields pass, except for those that could choose another model, provider, address or price
(platform_app/llm/providers/openai/request_fields.py).
"""

from dataclasses import dataclass
from typing import Any

from fastapi import Request

from apps.platform_api.http.body.forwarded_body import parse_object, require_model_name, wrong_field
from apps.platform_api.http.body.json_body import require_json
from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.request_state import body_facts_of, body_of
from apps.platform_api.openai.azure_paths import deployment_of
from platform_app.llm.field_types import READ, wrong_types
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.openai.request_fields import extra_fields
from platform_app.llm.requests import ModelRequest, Operation
from platform_app.llm.translation.field_names.client_fields import with_brackets


@dataclass(frozen=True, slots=True)
class OpenAIBody:
    """A request in OpenAI's shape."""

    request: ModelRequest
    wants_usage: bool
    """Whether the client requests the last chunk, which has the token counts."""


async def read_openai_body(request: Request, operation: Operation) -> OpenAIBody:
    """Return the request's body, after the checks of the parts that the gateway uses.

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
    body = parse_object(raw, facts)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if deployment is not None:
        model = deployment
    if model is not None:
        require_model_name(model)
    if stream is not None and not isinstance(stream, bool):
        raise wrong_field("stream", "expected true or false")
    wants_usage = False
    if operation is Operation.CHAT:
        _check_messages(body.get("messages"))
        for name, words in wrong_types(body, READ[ApiFormat.CHAT]):
            raise wrong_field(with_brackets(name), f"expected {words}")
        wants_usage = _wants_usage(body, bool(stream))
    else:
        _check_input(body)
        if stream:
            raise wrong_field("stream", "embeddings are not streamed; leave it out")
    return OpenAIBody(ModelRequest(model, body, operation, bool(stream), extra_fields(body)), wants_usage)


def _check_messages(messages: object) -> None:
    if not isinstance(messages, list) or not messages:
        raise wrong_field("messages", "expected a list of at least one message")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise wrong_field(f"messages[{index}]", "expected an object with a role")


def _check_input(body: dict[str, Any]) -> None:
    given = body.get("input")
    if not isinstance(given, str | list) or not given:
        raise wrong_field("input", "expected a text, or a list of texts or of tokens, that is not empty")


def _wants_usage(body: dict[str, Any], stream: bool) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong_field("stream_options", "expected an object")
    if not stream:
        raise wrong_field("stream_options", 'is only for requests with "stream": true')
    return options.get("include_usage") is True
