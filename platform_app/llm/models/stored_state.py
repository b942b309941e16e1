"""What a route may do with responses that its provider stores: create, continue, read and delete them."""

import asyncio
from typing import Protocol, runtime_checkable

from platform_app.errors import PlatformError, ProviderAuthFailed
from platform_app.llm.errors import UnsupportedByProvider, mask_credential, unsupported
from platform_app.llm.formats import ApiFormat
from platform_app.llm.interfaces import Credentials
from platform_app.llm.models.route import Route
from platform_app.llm.policies.concurrency import ConcurrencyLimit
from platform_app.llm.requests import ModelCall


def require_stored_state(route: Route, call: ModelCall) -> None:
    """Check that the route has the state that the call wants to store or refers to.

    Raises:
        UnsupportedByProvider: the provider stores no responses, or the earlier response is stored elsewhere.
    """
    if call.format is not ApiFormat.RESPONSES:
        return
    if call.body.get("store") is True and not route.stores_responses:
        raise unavailable("store")
    if call.body.get("previous_response_id") is not None:
        pinned = call.pinned == (route.provider, route.upstream_model)
        if not pinned or not route.stores_responses:
            raise unavailable("previous_response_id")


def unavailable(field: str) -> UnsupportedByProvider:
    """Return the error for state that the route does not have."""
    return unsupported(
        field, "is not available on this model: its provider stores no responses. Send the whole conversation as input"
    )


@runtime_checkable
class StoredResponses(Protocol):
    """An adapter of a provider that stores responses."""

    async def read_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        """Return the Response object as JSON; None if the provider has none with this id. Raises ProviderFailed or
        RequestRefused."""
        ...

    async def delete_stored(self, response_id: str, credential: str | None, timeout_seconds: float) -> bytes | None:
        """Delete the response, and return the provider's JSON; see read_stored."""
        ...


class StoredRoute:
    """Reads and deletes the responses that are stored along one route. Each call counts against the provider's
    concurrency limit."""

    def __init__(
        self,
        route: Route,
        adapter: StoredResponses,
        credentials: Credentials,
        limit: ConcurrencyLimit | None = None,
    ) -> None:
        """
        Args:
            route: the route.
            adapter: its provider's adapter.
            credentials: where the provider's credential is looked up.
            limit: the provider's concurrency limit; None if it has none.
        """
        self._route = route
        self._adapter = adapter
        self._credentials = credentials
        self._limit = limit

    async def read(self, response_id: str, timeout_seconds: float) -> bytes | None:
        """Return the Response object; see StoredResponses.read_stored. Raises Overloaded as Concurrency does."""
        return await self._limited(response_id, timeout_seconds, delete=False)

    async def delete(self, response_id: str, timeout_seconds: float) -> bytes | None:
        """Delete the response; see StoredResponses.delete_stored. Raises Overloaded as Concurrency does."""
        return await self._limited(response_id, timeout_seconds, delete=True)

    async def _limited(self, response_id: str, seconds: float, *, delete: bool) -> bytes | None:
        if self._limit is None:
            return await self._send(response_id, seconds, delete=delete)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        if await self._limit.acquire(deadline):
            seconds = max(0.0, deadline - loop.time())
        try:
            return await self._send(response_id, seconds, delete=delete)
        finally:
            self._limit.release()

    async def _send(self, response_id: str, seconds: float, *, delete: bool) -> bytes | None:
        name = self._route.secret_name
        if name is None:
            return await self._attempt(response_id, None, seconds, delete=delete)
        credential = await self._credentials.get(name)
        try:
            return await self._attempt(response_id, credential, seconds, delete=delete)
        except ProviderAuthFailed:
            refreshed = await self._credentials.refresh(name, credential)
            if refreshed == credential:
                raise
        return await self._attempt(response_id, refreshed, seconds, delete=delete)

    async def _attempt(self, response_id: str, credential: str | None, seconds: float, *, delete: bool) -> bytes | None:
        """Call the provider once, and mask our credential in its error."""
        send = self._adapter.delete_stored if delete else self._adapter.read_stored
        try:
            return await send(response_id, credential, seconds)
        except PlatformError as error:
            mask_credential(error, credential)
            raise
