"""Any body gets a documented response."""

import json
import os
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.gateway.process import Gateway
from tests.support.gateway.refused_bodies import refusal, tool

pytestmark = pytest.mark.proof
_EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "150"))
_anything = settings(
    max_examples=_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=15,
)
_FIELDS = (
    "messages", "prompt", "model", "stream", "temperature", "top_p", "max_tokens", "stop", "seed", "tools",
    "tool_choice", "response_format", "conversation_id", "metadata",
)  # fmt: skip
_near_misses = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(_FIELDS, _json),
        "prompt": st.text(min_size=1) | _json,
        "tools": st.builds(lambda value: tool(value)["tools"], _json),
        "response_format": st.builds(lambda value: {"type": "json_object", "x": value}, _json),
        "messages": st.lists(
            st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "tool", "system"]), "content": _json}),
            max_size=3,
        ),
    },
)


async def _is_documented(gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], content: bytes) -> None:
    response = await client.post(gateway.chat_url, headers=headers, content=content)
    if response.status_code == 200:
        return
    status, code, _ = refusal(response)
    assert (status, code) in {
        (400, "invalid_request"), (404, "model_not_found"), (422, "validation_error"),
        (400, "provider_rejected_request"), (415, "unsupported_media_type"),  # bytes may be another encoding's
    }, response.text  # fmt: skip


@_anything
@given(content=st.binary(max_size=300))
async def test_any_bytes_get_a_response(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], content: bytes
) -> None:
    await _is_documented(gateway, client, headers, content)


@_anything
@given(body=_json)
async def test_any_json_gets_a_response(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], body: Any
) -> None:
    await _is_documented(gateway, client, headers, json.dumps(body).encode())


@_anything
@given(body=_near_misses)
async def test_any_value_in_known_fields_gets_a_response(
    gateway: Gateway, client: httpx.AsyncClient, headers: dict[str, str], body: Any
) -> None:
    await _is_documented(gateway, client, headers, json.dumps(body).encode())
