"""Read a body in OpenAI's or Anthropic's contract, which is forwarded: the checks that all of these routes share.

Every invalid body gets 400, since these contracts have no 422.
"""

from typing import Any

from apps.platform_api.http.body.json_text import TextFacts, parse_json
from platform_app.errors import InvalidRequest, ValidationFailed

MAX_MODEL_NAME = 256
MAX_FIELD_NAME = 128
"""The characters of a field's name. Errors repeat names, and rules for fields are applied to each of them."""
_SHOWN = 64


def parse_object(raw: bytes, facts: TextFacts | None) -> dict[str, Any]:
    """Return the body, every value of which can be forwarded unchanged. `facts`: see parse_json.

    Raises:
        InvalidRequest: the body is not a JSON object, or a value cannot be forwarded; `param` names its field.
    """
    try:
        body = parse_json(raw, facts)
    except ValidationFailed as error:
        details = error.details or [error.message]
        raise InvalidRequest(f"{details[0]}.", param=details[0].partition(": ")[0]) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    if max(map(len, body), default=0) > MAX_FIELD_NAME:
        name = next(name for name in body if len(name) > MAX_FIELD_NAME)
        raise wrong_field(name[:_SHOWN], f"expected a name of at most {MAX_FIELD_NAME} characters")
    return body


def require_model_name(model: object) -> None:
    """Require that a model name is a text that can be one. Raises InvalidRequest."""
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_NAME:
        raise wrong_field("model", f"expected a text of 1 to {MAX_MODEL_NAME} characters")


def wrong_field(param: str, what: str) -> InvalidRequest:
    """Return the error for a field; `what` says what was expected."""
    return InvalidRequest(f"{param}: {what}.", param=param)
