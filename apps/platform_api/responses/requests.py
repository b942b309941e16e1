"""Read a Responses request. Only the parts that the gateway uses are checked; the body is forwarded unchanged.

Responses are stateless unless the client requests a stored one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request

from apps.platform_api.http.body.forwarded_body import parse_object, require_model_name, wrong_field
from apps.platform_api.http.body.json_body import require_json
from apps.platform_api.http.body.json_text import TextFacts
from apps.platform_api.http.request_state import body_facts_of, body_of
from apps.platform_api.responses.stored.ids import StoredId
from platform_app.llm.field_types import READ, wrong_types
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.openai_responses.request_fields import extra_fields, offered_tools
from platform_app.llm.requests import ModelRequest
from platform_app.llm.translation.field_names.client_fields import with_brackets


@dataclass(frozen=True, slots=True)
class ResponsesBody:
    """A request in the shape of the Responses API."""

    model: str | None
    stream: bool
    fields: Mapping[str, Any]
    """The client's fields, without model and stream."""

    @property
    def previous(self) -> str | None:
        """The client's id of the previous response."""
        previous: str | None = self.fields.get("previous_response_id")
        return previous

    @property
    def stored(self) -> bool:
        """Whether the client requests a stored response."""
        return self.fields.get("store") is True

    def request(self, before: StoredId | None = None) -> ModelRequest:
        """Return the client's request. `before` is the stored response that `previous` names. Its route serves the
        request, and its model is the default."""
        model, pinned = self.model, None
        sent = self.fields if self.stored else {**self.fields, "store": False}
        if before is not None:
            model, pinned = model or before.model, (before.provider, before.upstream_model)
            sent = {**sent, "previous_response_id": before.response_id}
        extra = extra_fields(self.fields)
        return ModelRequest(
            model,
            sent,
            stream=self.stream,
            extra_fields=extra,
            format=ApiFormat.RESPONSES,
            pinned=pinned,
            stored_model=None if before is None else before.model,
            stored_tokens=0 if before is None else before.tokens,
            offered_tools=offered_tools(self.fields, extra) if extra else (),
        )


async def read_responses_body(request: Request) -> ResponsesBody:
    """Return the request's body, after the checks of the parts that the gateway uses.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON.
        InvalidRequest: the body is not a JSON object, or a field that the gateway reads is wrong; `param` names it.
    """
    require_json(request)
    return parse_responses_body(await body_of(request), body_facts_of(request))


def parse_responses_body(raw: bytes, facts: TextFacts | None = None) -> ResponsesBody:
    """Return the raw body as a request; see read_responses_body for the errors and parse_json for `facts`."""
    body = parse_object(raw, facts)
    model, stream = body.pop("model", None), body.pop("stream", None)
    if model is not None:
        require_model_name(model)
    if stream is not None and not isinstance(stream, bool):
        raise wrong_field("stream", "expected true or false")
    _check_input(body)
    for name, words in wrong_types(body, READ[ApiFormat.RESPONSES]):
        raise wrong_field(with_brackets(name), f"expected {words}")
    return ResponsesBody(model, bool(stream), body)


def _check_input(body: Mapping[str, Any]) -> None:
    given = body.get("input")
    if given is None and (body.get("prompt") is not None or body.get("previous_response_id") is not None):
        return
    if not isinstance(given, str | list) or not given:
        raise wrong_field("input", "expected a text or a list of items that is not empty")
    for index, item in enumerate(given if isinstance(given, list) else ()):
        if not isinstance(item, dict):
            raise wrong_field(f"input[{index}]", "expected an object")
