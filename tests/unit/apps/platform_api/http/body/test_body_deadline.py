"""A body has one deadline, from when it is wanted to its last byte: chunks that keep arriving do not extend it."""

import asyncio

import pytest
from starlette.types import Message, Receive

from apps.platform_api.http.body.request_body import GRACE_SECONDS, BodyBudget, BodyLimits, BoundedRequestBody
from platform_app.errors import InvalidRequest
from tests.support.timing.virtual_time import now, virtual_time


def dripping(seconds: float, size: int, chunks: int) -> Receive:
    """A client that sends a chunk of so many bytes each so many seconds."""
    left = chunks

    async def receive() -> Message:
        nonlocal left
        await asyncio.sleep(seconds)
        left -= 1
        return {"type": "http.request", "body": b"x" * size, "more_body": left > 0}

    return receive


def body_of(receive: Receive, limits: BodyLimits) -> BoundedRequestBody:
    return BoundedRequestBody({"type": "http", "headers": []}, receive, limits, BodyBudget(1 << 20, 1 << 20))


@virtual_time
async def test_body_of_many_chunks_ends_at_its_deadline() -> None:
    """Each chunk comes long before the deadline; only all of them together are late."""
    began = now()
    with pytest.raises(InvalidRequest, match="did not arrive within 2 s"):
        await body_of(dripping(0.1, 100, 1000), BodyLimits(1 << 20, 2)).read("key")
    assert now() - began == pytest.approx(2)


@virtual_time
async def test_body_below_the_least_rate_ends_early() -> None:
    limits = BodyLimits(1 << 20, 30, min_rate=100)
    began = now()
    with pytest.raises(InvalidRequest, match="at less than 100 bytes per second"):
        await body_of(dripping(1, 50, 1000), limits).read("key")
    assert now() - began == pytest.approx(2 * GRACE_SECONDS, abs=1)


@virtual_time
async def test_body_in_time_is_read() -> None:
    body = await body_of(dripping(0.1, 100, 19), BodyLimits(1 << 20, 2)).read("key")
    assert len(body) == 1900
