"""The caller's error for a response head that is not valid in HTTP/1.1: it comes at once, not after a timeout."""

import asyncio

import pytest

from platform_app.errors import ProviderBadResponse, ProviderError
from platform_app.llm.http.client import ProviderHttp
from platform_app.llm.http.response import ProviderLimits
from tests.support.providers.transport import OK, always, talking

HOUR = 3600.0
"""The timeouts of these calls. A test that reaches one fails by its own timeout first."""
HEADS = {
    "a status of 0": b"HTTP/1.1 000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of 999": b"HTTP/1.1 999 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "an unknown coding": OK + b"Content-Type: application/json\r\nTransfer-Encoding: identity\r\n\r\n{}",
}


@pytest.mark.parametrize("response", HEADS.values(), ids=HEADS)
async def test_bad_head_raises_provider_bad_response(response: bytes) -> None:
    async with talking(always(response), connections=1) as client:
        limits = ProviderLimits(HOUR, HOUR, 1024 * 1024)
        http = ProviderHttp(client.pool, limits, {}, lambda status, headers, body: ProviderError(str(status)))
        url = f"http://{client.target.address.host}:{client.target.address.port}/v1"
        for _ in range(2):  # the connection is free again, and is a new one
            async with asyncio.timeout(300):
                with pytest.raises(ProviderBadResponse):
                    await http.post(url, {}, {"input": "x"}, HOUR)
        assert client.pool.made == 2
