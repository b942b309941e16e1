"""The attributes of one attempt at a provider."""

import json
from collections.abc import Mapping

from opentelemetry.sdk.trace import Event
from opentelemetry.util.types import AttributeValue

from apps.trace_exporter import conventions as name
from apps.trace_exporter.conventions import ModelNames
from apps.trace_exporter.texts import address, shown
from platform_app.observability.record import OK
from platform_app.observability.tracing.kept_request import KeptAttempt

CLIENT_CLOSED = "client_closed"
_MAX_INT = 2**63
"""OTLP has no larger integers, and one of them would make the whole batch fail."""


def attempt_failed(attempt: KeptAttempt) -> bool:
    """Return whether the attempt failed. It did not if the client disconnected during it."""
    return attempt.outcome not in (OK, CLIENT_CLOSED)


def attempt_attributes(
    attempt: KeptAttempt, number: int, content: Mapping[str, str] | None, names: ModelNames
) -> dict[str, AttributeValue]:
    """Return what the CLIENT span of an attempt shows.

    Args:
        attempt: an attempt that was sent.
        number: 1 for the request's first one.
        content: prompt and output, if the operator opted in and this is the request's last attempt.
        names: the convention.
    """
    host, port = address(attempt.server)
    attributes: dict[str, AttributeValue | None] = {
        names.provider: attempt.provider,
        names.request_model: shown(attempt.upstream_model),
        names.stream: attempt.stream,
        names.response_id: shown(attempt.response_id),
        names.response_model: shown(attempt.response_model),
        name.PUBLIC_MODEL: attempt.model,
        name.ATTEMPT_NUMBER: number,
        name.OUTCOME: attempt.outcome,
        name.ERROR_TYPE: attempt.outcome if attempt_failed(attempt) else None,
        name.HTTP_STATUS: attempt.status,
        name.SERVER_ADDRESS: host or None,
        name.SERVER_PORT: port,
        name.UPSTREAM_REQUEST_ID: shown(attempt.upstream_request_id),
        names.cost_usd: None if attempt.cost_microusd is None else attempt.cost_microusd / 1e6,
    }
    if names.operation is not None:
        attributes[names.operation] = attempt.operation
    if names.span_kind is not None and names.span_kinds is not None:
        attributes[names.span_kind] = names.span_kinds.get(attempt.operation, "LLM")
    if attempt.first_chunk is not None:
        attributes[names.first_chunk] = (attempt.first_chunk - attempt.started) / 1e6
    if (reason := shown(attempt.finish_reason)) is not None:
        attributes[names.finish_reasons] = [reason] if names.finish_reason_list else reason
    _add_parameters(attributes, attempt, names)
    _add_usage(attributes, attempt.usage or {}, names)
    _add_content(attributes, content or {}, names)
    return {key: value for key, value in attributes.items() if value is not None}


def not_sent_event(attempt: KeptAttempt, timestamp: int) -> Event:
    """Return the event of an attempt that the gateway did not send, for example because the breaker was open."""
    attributes = {
        name.GEN_AI.provider: attempt.provider,
        name.GEN_AI.request_model: attempt.upstream_model,
        name.OUTCOME: attempt.outcome,
    }
    return Event(name.NOT_SENT_EVENT, attributes, timestamp)


def _add_parameters(attributes: dict[str, AttributeValue | None], attempt: KeptAttempt, names: ModelNames) -> None:
    # As the client sent them, and clients send anything.
    max_tokens = attempt.max_tokens if type(attempt.max_tokens) is int and attempt.max_tokens < _MAX_INT else None
    temperature = attempt.temperature if type(attempt.temperature) in (int, float) else None
    if names.parameters is None:
        attributes[names.max_tokens] = max_tokens
        attributes[names.temperature] = None if temperature is None else float(temperature)
        return
    given = {"max_tokens": max_tokens, "temperature": temperature}
    if given := {key: value for key, value in given.items() if value is not None}:
        attributes[names.parameters] = json.dumps(given)


def _add_usage(attributes: dict[str, AttributeValue | None], usage: Mapping[str, int], names: ModelNames) -> None:
    attributes[names.input_tokens] = usage.get("input")
    attributes[names.output_tokens] = usage.get("output")
    for key, tokens in (
        (names.cached_tokens, usage.get("cached")),
        (names.cache_write_tokens, usage.get("cache_write")),
        (names.reasoning_tokens, usage.get("reasoning")),
    ):
        attributes[key] = tokens or None
    if names.total_tokens is not None and usage:
        attributes[names.total_tokens] = usage.get("input", 0) + usage.get("output", 0)


def _add_content(attributes: dict[str, AttributeValue | None], content: Mapping[str, str], names: ModelNames) -> None:
    for key, text in ((names.prompt, content.get("prompt")), (names.output, content.get("output"))):
        if text:
            attributes[key] = shown(text, len(text))
    if content and names.content_type is not None:
        attributes.update(names.content_type)
