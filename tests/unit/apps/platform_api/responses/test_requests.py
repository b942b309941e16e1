"""Requests of the Responses API: what the gateway checks, and what it adds so that a response is stateless."""

from typing import Any

import orjson
import pytest

from apps.platform_api.responses.requests import parse_responses_body
from apps.platform_api.responses.stored.ids import StoredId
from platform_app.errors import InvalidRequest
from platform_app.llm.formats import ApiFormat


def _sent(body: dict[str, Any]) -> Any:
    return parse_responses_body(orjson.dumps({"input": "Hi.", **body})).request()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ["Hi."]}, "input[0]"),
        ({"model": 7}, "model"),
        ({"model": ""}, "model"),
        ({"stream": "yes"}, "stream"),
        ({"store": 1}, "store"),
        ({"background": "no"}, "background"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"include": "all"}, "include"),
    ],
)
def test_wrong_field_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _sent(body)
    assert caught.value.param == param


def test_request_is_stateless_unless_it_asks_to_be_stored() -> None:
    request = _sent({"model": "m", "stream": True, "new_field": 1})

    assert request.body == {"input": "Hi.", "new_field": 1, "store": False}
    assert request.format is ApiFormat.RESPONSES
    assert request.stream
    assert request.extra_fields == ("new_field",)
    assert _sent({"store": True}).body["store"] is True


def test_previous_response_pins_its_route() -> None:
    body = parse_responses_body(orjson.dumps({"previous_response_id": "resp_signed", "store": True}))

    request = body.request(StoredId("owner", "smart", "openai", "gpt-5", "resp_1", 9000))

    assert request.pinned == ("openai", "gpt-5")
    assert request.stored_tokens == 9000
    assert request.model == request.stored_model == "smart"
    assert request.body["previous_response_id"] == "resp_1"
