"""One request for a model, from top to bottom: resolve the model, call the rate limiter, call the provider through its
policies, settle, record."""

import asyncio
from dataclasses import dataclass, replace

from platform_app.auth.caller import Caller
from platform_app.errors import ModelNotAllowed, ProviderFailed, RateLimited, Unavailable
from platform_app.ledger.interfaces import Ledger
from platform_app.llm.errors import CountingUnsupported
from platform_app.llm.formats import ApiFormat
from platform_app.llm.interfaces import UpstreamResponse
from platform_app.llm.models.registry import ModelRegistry, ServedModel
from platform_app.llm.requests import AttemptLog, ModelCall, ModelRequest, Operation
from platform_app.llm.responses import ModelResponse
from platform_app.llm.translation.field_names.client_fields import use_client_names
from platform_app.llm.usage.counts import TokenUsage
from platform_app.llm.usage.settlement import REMOTE_TOKENS
from platform_app.llm.usage.token_estimate import (
    estimate_prompt_tokens,
    requested_output_tokens,
    usual_output_tokens,
)
from platform_app.metering import CallMeter, assumed_costs
from platform_app.observability.context import RequestContext
from platform_app.observability.tracing.content import ContentCapture
from platform_app.rate_limit.matching import LimitedRequest
from platform_app.rate_limit.service import RateLimitService
from platform_app.value_types import request_dataclass


@request_dataclass(frozen=True, slots=True)
class ChatResult:
    """The response to a request, and the model and provider that it came from."""

    model: str
    """The public name."""
    provider: str
    upstream_model: str
    response: UpstreamResponse
    usage: TokenUsage | None = None
    """The provider's token counts for a JSON response; None if they are not plausible. A stream has its own `usage`."""
    conversation_tokens: int = 0
    """The tokens of the conversation with this response. If the provider has not counted them, as at the start of a
    stream, this is the estimate of the prompt and of the usual output."""


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of a request's prompt."""

    tokens: int
    estimated: bool
    """Whether it is the gateway's estimate and not the provider's count."""


@dataclass(frozen=True, slots=True)
class ChatService:
    """Everything between an authenticated caller and a provider, for chats and embeddings alike. A test builds it from
    fakes in one line, because its fields are interfaces."""

    models: ModelRegistry
    limits: RateLimitService
    ledger: Ledger
    deadline_seconds: float
    """Limit for the whole request: queueing, retries, fallbacks and the last byte."""

    async def send(self, request: ModelRequest, caller: Caller, context: RequestContext) -> ChatResult:
        """Return the whole response, or a stream whose first chunk has arrived. The caller of this method closes the
        stream.

        The context notes the limiter's decision, the called route and the attempts, also for a failed request.

        Raises:
            PlatformError: ModelNotFound, ModelNotAllowed, InvalidRequest for a field that the providers must not get,
                RateLimited, LimiterUnavailable, PriceUnknown, or the provider's failure.
                Nothing is charged before the model is known to exist and to be allowed.
        """
        model = self._allowed_model(request, caller, context)
        if request.offered_tools:
            request = _without_refused_tools(request, model)
        estimate = self._estimate(request)
        try:
            admission = await self.limits.admit(self._usage(estimate, model, caller, context), context)
        except RateLimited as error:
            use_client_names(error, request.format, request.body)
            raise
        deadline = asyncio.get_running_loop().time() + self.deadline_seconds
        attempt_log = AttemptLog(record=context.record, trace=context.trace)
        call = ModelCall(
            request.body, deadline, request.operation, request.stream, attempt_log, request.format, request.headers,
            request.session, request.pinned, caller.owner,
        )  # fmt: skip
        meter = CallMeter(
            call, caller, context, admission, self.ledger, estimate, self.limits.rules.assumed_prices,
            self.models.default_output_tokens,
        )  # fmt: skip
        if context.content is not None:
            context.content.note_prompt(request.body)
        try:
            response = await model.upstream.send(call)
        except BaseException as error:
            meter.end(error)
            raise
        finally:
            _note_call(call.attempt_log, context)
        if context.content is not None:
            _capture(response, context.content)
        usage = None
        if isinstance(response, ModelResponse):
            usage = meter.complete(response)
        else:
            meter.follow(response)
        route = call.attempt_log.route
        assert route is not None  # noqa: S101 - a response came from a route
        tokens = 0
        if request.format is ApiFormat.RESPONSES:
            tokens = self._conversation_tokens(request, estimate, usage)
        return ChatResult(model.shown_name, route.provider, route.upstream_model, response, usage, tokens)

    async def count_tokens(self, request: ModelRequest, caller: Caller, context: RequestContext) -> TokenCount:
        """Return the tokens of a request that is not sent to the model. It counts as a request for the limits, and uses
        no tokens and costs nothing.

        The provider of the model's first usable route counts, if it can and responds; else this is an estimate.

        Raises:
            PlatformError: ModelNotFound, ModelNotAllowed, InvalidRequest, RateLimited, LimiterUnavailable, as `send`;
                RequestRefused if the provider refuses the request.
        """
        model = self._allowed_model(request, caller, context)
        usage = LimitedRequest(caller.key_id, caller.owner, context.route, model.name, caller.limits)
        await self.limits.charge_request(usage, context)
        deadline = asyncio.get_running_loop().time() + self.deadline_seconds
        attempt_log = AttemptLog(record=context.record, trace=context.trace)
        call = ModelCall(
            request.body, deadline, request.operation, False, attempt_log, request.format, request.headers,
            request.session,
        )  # fmt: skip
        try:
            response = await model.upstream.send(call)
        except (CountingUnsupported, ProviderFailed, Unavailable):
            return TokenCount(estimate_prompt_tokens(request.body), estimated=True)
        finally:
            _note_call(attempt_log, context)
        assert isinstance(response, ModelResponse)  # noqa: S101 - for mypy: no stream was requested
        return TokenCount(response.body["input_tokens"], estimated=False)

    async def admit_replay(self, request: ModelRequest, caller: Caller, context: RequestContext) -> None:
        """Admit the replay of a stored response: its model must still exist and be allowed, and it counts as a request.

        Raises:
            PlatformError: ModelNotFound, ModelNotAllowed, InvalidRequest, RateLimited, LimiterUnavailable, as `send`.
        """
        model = self._allowed_model(request, caller, context)
        usage = LimitedRequest(caller.key_id, caller.owner, context.route, model.name, caller.limits)
        await self.limits.charge_request(usage, context)

    def _allowed_model(self, request: ModelRequest, caller: Caller, context: RequestContext) -> ServedModel:
        model = self.models.find(request.model, caller.allowed_models)
        context.model = model.name
        if request.model is not None and request.model != model.name:
            context.requested_model = request.model
        if not model.is_allowed(caller.allowed_models):
            raise ModelNotAllowed(f"This API key may not use the model '{model.shown_name}'.")
        fields = request.extra_fields
        if request.offered_tools:
            fields = tuple(name for name in fields if name not in request.offered_tools)
        model.require_fields(fields)
        if request.pinned is not None:
            model.require_route(request.pinned)
            self._require_stored_model(request, caller)
        return model

    def _require_stored_model(self, request: ModelRequest, caller: Caller) -> None:
        """Check that the key may use the model of the stored conversation: another model may have the same route."""
        if request.stored_model is None or caller.allowed_models is None:
            return
        stored = self.models.find(request.stored_model, caller.allowed_models)
        if not stored.is_allowed(caller.allowed_models):
            raise ModelNotAllowed(f"This API key may not use the model '{stored.shown_name}'.")

    def _estimate(self, request: ModelRequest) -> TokenUsage:
        """Return the upper estimate of the tokens that the request may use."""
        prompt = estimate_prompt_tokens(request.body) + request.stored_tokens
        generates = request.operation is Operation.CHAT
        output = requested_output_tokens(request.body, self.models.default_output_tokens) if generates else 0
        return TokenUsage(prompt, output, prompt + output)

    def _conversation_tokens(self, request: ModelRequest, estimate: TokenUsage, usage: TokenUsage | None) -> int:
        if usage is None:
            usage = TokenUsage(
                estimate.prompt_tokens, usual_output_tokens(request.body, self.models.default_output_tokens)
            )
        return min(usage.prompt_tokens + usage.completion_tokens, REMOTE_TOKENS)

    def _usage(
        self, estimate: TokenUsage, model: ServedModel, caller: Caller, context: RequestContext
    ) -> LimitedRequest:
        key_id, owner, route = caller.key_id, caller.owner, context.route
        rules = self.limits.rules
        if not rules.has_token_or_cost_rules:
            return LimitedRequest(key_id, owner, route, model.name, caller.limits)
        tokens, cost = estimate.total_tokens, model.most_microusd(estimate)
        if model.unpriced is None:
            return LimitedRequest(key_id, owner, route, model.name, caller.limits, tokens, cost)
        assumed = assumed_costs(rules.assumed_prices, estimate)
        return LimitedRequest(key_id, owner, route, model.name, caller.limits, tokens, cost, model.unpriced, assumed)


def _without_refused_tools(request: ModelRequest, model: ServedModel) -> ModelRequest:
    """Return the request without the tools that the client only offers and a provider of the model must not get."""
    refused = [name for name in request.offered_tools if model.refuses(name)]
    if not refused:
        return request
    tools = [tool for tool in request.body["tools"] if f"tools.{tool.get('type')}" not in refused]
    return replace(request, body={**request.body, "tools": tools})


def _capture(response: UpstreamResponse, content: ContentCapture) -> None:
    """Copy the response into the request's trace, for operators who opted in."""
    if isinstance(response, ModelResponse):
        content.note_response(response.generated)
    else:
        response.observe_text(content.note_text)


def _note_call(attempt_log: AttemptLog, context: RequestContext) -> None:
    """Note the called route and the attempts: for the access line, and for headers of responses and of errors."""
    if attempt_log.route is None:
        return
    context.provider = attempt_log.route.provider
    context.upstream_model = attempt_log.route.upstream_model
    context.attempts = attempt_log.attempts
