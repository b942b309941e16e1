"""Requests that fail before anything is sent."""

from typing import Any, cast

import pytest

from platform_app.errors import ProviderError, ProviderRejectedRequest
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.response import ProviderLimits
from platform_app.llm.http.transport.pool import ConnectionPool


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize("value", [nested(300), 2**64, -(2**63) - 1])
async def test_unserialisable_request_is_refused(value: Any) -> None:
    """A translation may produce such a request from texts that hold JSON. It is not a bug, and no retry can fix it."""
    pool = cast(ConnectionPool, None)  # not used
    http = ProviderHttp(pool, ProviderLimits(1, 1, 1), {}, lambda status, headers, body: ProviderError("x"))
    with pytest.raises(ProviderRejectedRequest) as caught:
        await http.post("http://127.0.0.1:1", {}, {"input": value}, 1)
    assert caught.value.details == ["the request is nested too deeply, or holds an integer of more than 64 bits"]
