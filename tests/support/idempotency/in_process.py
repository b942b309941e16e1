"""An IdempotencyService over a store in memory."""

from platform_app.idempotency.in_flight import IdempotencyPolicy, InFlightRequest
from platform_app.idempotency.service import IdempotencyService
from platform_app.idempotency.store import Holder
from platform_app.idempotency.stored_response import StoredResponse

POLICY = IdempotencyPolicy(keep_seconds=3600, max_bytes=100, lease_seconds=6.0)
OUTCOMES = "platform_idempotency_total"


async def begin(
    keeper: IdempotencyService,
    *,
    caller: str = "k1",
    owner: str = "team",
    route: str = "/a",
    key: str = "one",
    body: bytes = b"{}",
) -> InFlightRequest | StoredResponse:
    """Send a request with a key to the service."""
    return await keeper.begin(Holder(caller, owner), route, key, body)


async def begun(keeper: IdempotencyService, **more: str) -> InFlightRequest:
    """Begin a request that is the first one with its key."""
    attempt = await begin(keeper, **more)  # type: ignore[arg-type]
    assert isinstance(attempt, InFlightRequest)
    return attempt
