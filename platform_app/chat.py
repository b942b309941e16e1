"""One chat request, top to bottom: resolve the model, ask the limiter, fetch the secret, call the provider,
note what happened."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from platform_app.auth.caller import Caller
from platform_app.errors import ModelNotAllowed, ProviderNotConfigured, SecretError
from platform_app.llm.base import ChatAdapter
from platform_app.llm.catalog import Catalog, Route
from platform_app.llm.types import ChatChunk, ChatCompletion, ChatRequest, TokenUsage, UpstreamCall
from platform_app.observability.context import RequestContext
from platform_app.observability.logging import get_logger
from platform_app.observability.provider_call import ProviderCall
from platform_app.rate_limit.gate import RateLimitGate
from platform_app.rate_limit.rules import Usage
from platform_app.secret_store.base import SecretStore

_log = get_logger("chat")


@dataclass(frozen=True, slots=True)
class ChatService:
    """Everything between a verified caller and a provider. Its fields are interfaces, so that a test builds it
    from fakes in one line."""

    catalog: Catalog
    limits: RateLimitGate
    secrets: SecretStore
    adapters: Mapping[str, ChatAdapter]
    """By provider name."""

    async def complete(
        self, request: ChatRequest, caller: Caller, context: RequestContext
    ) -> tuple[Route, ChatCompletion]:
        """The whole answer, and the route that gave it.

        Raises:
            PlatformError: ModelNotFound, ModelNotAllowed, RateLimited, ProviderNotConfigured, or the provider's
                failure. Nothing is charged before the model is known to exist and to be allowed.
        """
        route, credential = await self._admit(request, caller, context)
        with ProviderCall(route.provider, route.public_model) as record:
            call = UpstreamCall(route.upstream_model, request.body)
            completion = await self.adapters[route.provider].complete(call, credential)
            _count_tokens(record, completion.usage)
        return route, completion

    async def stream(
        self, request: ChatRequest, caller: Caller, context: RequestContext
    ) -> tuple[Route, AsyncGenerator[ChatChunk, None]]:
        """The answer as it comes; raises like `complete` until the generator starts, and the generator raises the
        provider's failures. Whoever gets the generator must close it."""
        route, credential = await self._admit(request, caller, context)
        return route, self._relay(route, UpstreamCall(route.upstream_model, request.body), credential)

    async def _relay(self, route: Route, call: UpstreamCall, credential: str) -> AsyncGenerator[ChatChunk, None]:
        with ProviderCall(route.provider, route.public_model) as record:
            async with aclosing(self.adapters[route.provider].stream(call, credential)) as chunks:
                async for chunk in chunks:
                    record.chunk()
                    _count_tokens(record, chunk.usage)
                    yield chunk

    async def _admit(self, request: ChatRequest, caller: Caller, context: RequestContext) -> tuple[Route, str]:
        route = self.catalog.routes(request.model)[0]
        context.model, context.provider = route.public_model, route.provider
        if not caller.may_use(route.public_model):
            raise ModelNotAllowed(f"This API key may not use the model '{route.public_model}'.")
        usage = Usage(caller.key_id, caller.owner, context.route, route.public_model, caller.limits)
        await self.limits.charge(usage, context)
        return route, await self._credential(route)

    async def _credential(self, route: Route) -> str:
        try:
            return (await self.secrets.get(route.secret_name)).value
        except SecretError:
            _log.exception("provider_secret_unavailable", provider=route.provider, secret=route.secret_name)
            raise ProviderNotConfigured(
                f"The provider '{route.provider}' has no usable credential. This is the operator's to mend."
            ) from None


def _count_tokens(record: ProviderCall, usage: TokenUsage | None) -> None:
    if usage is not None:
        record.tokens(usage.prompt_tokens, usage.completion_tokens)
