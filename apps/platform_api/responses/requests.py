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
from platform_app.llm.formats import ApiFormat
from platform_app.llm.providers.openai_responses.request_fields import extra_fields
from platform_app.llm.requests import ModelRequest


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
        return ModelRequest(
            model,
            sent,
            stream=self.stream,
            extra_fields=extra_fields(self.fields),
            format=ApiFormat.RESPONSES,
            pinned=pinned,
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
    for name, value in (("stream", stream), ("store", body.get("store")), ("background", body.get("background"))):
        if value is not None and not isinstance(value, bool):
            raise wrong_field(name, "expected true or false")
    _check_input(body)
    previous = body.get("previous_response_id")
    if previous is not None and not isinstance(previous, str):
        raise wrong_field("previous_response_id", "expected a text")
    include = body.get("include")
    if include is not None and not isinstance(include, list):
        raise wrong_field("include", "expected a list")
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
