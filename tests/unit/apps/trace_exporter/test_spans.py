"""The spans of every kind of kept request."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from apps.trace_exporter.spans import SpanBuilder
from platform_app.observability.tracing.kept_request import KeptRequest, parse_line
from tests.support.observability.tracing.kept import (
    PARENT_SPAN,
    SERVER_SPAN,
    STARTED_AT,
    TRACE_ID,
    kept_attempt,
    kept_request,
)


def _attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def _named(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    return next(span for span in spans if span.name == name)


def test_server_span_of_success_has_http_attributes(builder: SpanBuilder) -> None:
    server = builder.build(kept_request())[0]
    assert server.name == "POST /v1/chat/completions"
    assert server.kind is SpanKind.SERVER
    assert server.status.status_code is StatusCode.UNSET
    assert server.start_time == STARTED_AT
    assert server.end_time == STARTED_AT + 1_000_000_000
    attributes = _attributes(server)
    assert attributes.items() >= {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "url.scheme": "https",
        "server.address": "gateway.example",
        "server.port": 8443,
        "client.address": "198.51.100.7",
        "platform.request_id": "01K0REQUEST",
        "platform.model": "gpt-fast",
        "platform.overhead_ms": 0.9,
        "platform.trace.kept": "sampled",
    }.items()  # fmt: skip
    assert "error.type" not in attributes


def test_all_spans_belong_to_trace_and_server_span(builder: SpanBuilder) -> None:
    server, *below = builder.build(kept_request())
    assert server.parent is not None
    assert server.parent.span_id == int(PARENT_SPAN, 16)
    assert server.parent.is_remote
    assert [span.name for span in below] == ["auth", "limits", "ledger", "chat gpt-5-mini"]
    for span in below:
        assert span.parent is not None
        assert span.parent.span_id == int(SERVER_SPAN, 16)
    for span in (server, *below):
        assert span.context is not None
        assert span.context.trace_id == int(TRACE_ID, 16)
        assert span.context.trace_flags.sampled


def test_trace_without_caller_has_no_parent(builder: SpanBuilder) -> None:
    assert builder.build(kept_request(parent_id=None))[0].parent is None


def test_attempt_span_has_gen_ai_attributes(builder: SpanBuilder) -> None:
    attempt = _named(builder.build(kept_request()), "chat gpt-5-mini")
    assert attempt.kind is SpanKind.CLIENT
    assert attempt.context is not None
    assert attempt.context.span_id == int("1" * 16, 16)
    assert _attributes(attempt) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5-mini",
        "gen_ai.request.stream": True,
        "gen_ai.request.max_tokens": 500,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.model": "gpt-5-mini-2026-08-07",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.2,
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 64,
        "gen_ai.usage.cache_creation.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 16,
        "http.response.status_code": 200,
        "server.address": "api.openai.com",
        "server.port": 443,
        "platform.model": "gpt-fast",
        "platform.attempt": 1,
        "platform.outcome": "ok",
        "platform.upstream.request_id": "req_abc",
        "platform.cost_usd": 0.001234,
    }


def test_open_inference_names_replace_gen_ai_names(open_inference_builder: SpanBuilder) -> None:
    server, *_, attempt = open_inference_builder.build(kept_request(content={"prompt": "[1]", "output": "[2]"}))
    assert _attributes(server)["openinference.span.kind"] == "CHAIN"
    assert _attributes(attempt).items() >= {
        "openinference.span.kind": "LLM",
        "llm.model_name": "gpt-5-mini",
        "llm.provider": "openai",
        "llm.invocation_parameters": '{"max_tokens": 500, "temperature": 0.5}',
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 40,
        "llm.token_count.total": 140,
        "llm.token_count.prompt_details.cache_read": 64,
        "llm.token_count.completion_details.reasoning": 16,
        "llm.cost.total": 0.001234,
        "llm.finish_reason": "stop",
        "input.value": "[1]",
        "output.value": "[2]",
        "input.mime_type": "application/json",
    }.items()  # fmt: skip


def test_retry_and_fallback_are_readable_in_order(builder: SpanBuilder) -> None:
    request = kept_request(
        hops=[("retry_wait", 20, 30, "provider_error"), ("fallback", 50, 50, "provider_timeout")],
        attempts=[
            kept_attempt(started=10, ended=20, outcome="provider_error", status=500, message="overloaded", usage=None),
            kept_attempt(started=30, ended=50, outcome="provider_timeout", status=None, span_id="2" * 16, usage=None),
            kept_attempt(started=60, ended=90, provider="anthropic", upstream_model="claude-5", span_id="3" * 16),
        ],
    )
    server, wait, first, second, third = builder.build(request)
    assert wait.name == "retry_wait"
    assert _attributes(wait) == {"platform.after": "provider_error"}
    assert [(event.name, dict(event.attributes or {})) for event in server.events] == [
        ("fallback", {"platform.after": "provider_timeout"})
    ]
    assert [_attributes(span)["platform.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert first.status.status_code is StatusCode.ERROR
    assert first.status.description == "overloaded"
    assert _attributes(first)["error.type"] == "provider_error"
    assert [event.name for event in first.events] == ["exception"]
    assert "http.response.status_code" not in _attributes(second)
    assert third.name == "chat claude-5"
    assert third.status.status_code is StatusCode.UNSET
    assert server.status.status_code is StatusCode.UNSET


def test_attempt_that_was_not_sent_is_an_event(builder: SpanBuilder) -> None:
    blocked = kept_attempt(outcome="breaker_open", span_id="", status=None, usage=None)
    request = kept_request(status=503, reason="provider_unavailable", kept="failed", hops=[], attempts=[blocked])
    (server,) = builder.build(request)
    assert server.status.status_code is StatusCode.ERROR
    assert _attributes(server)["error.type"] == "provider_unavailable"
    (event,) = server.events
    assert event.name == "attempt_not_sent"
    assert event.timestamp == STARTED_AT + 1_000_000
    assert event.attributes == {
        "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5-mini", "platform.outcome": "breaker_open"
    }  # fmt: skip


def test_denied_request_names_rule_without_error(builder: SpanBuilder) -> None:
    request = kept_request(
        status=429, decision="deny", reason="rate_limited", denied_by="key-rpm", attempts=[],
        hops=[("auth", 1, 2, "ok"), ("limits", 2, 3, "rate_limited")],
    )  # fmt: skip
    server, _, limits = builder.build(request)
    attributes = _attributes(server)
    assert attributes["platform.denied_by"] == "key-rpm"
    assert attributes["platform.decision"] == "deny"
    assert server.status.status_code is StatusCode.UNSET
    assert limits.status.status_code is StatusCode.UNSET
    assert _attributes(limits) == {"platform.outcome": "rate_limited"}


def test_failed_hop_of_failed_request_is_an_error(builder: SpanBuilder) -> None:
    request = kept_request(
        status=503, reason="auth_unavailable", attempts=[], hops=[("auth", 1, 2, "auth_unavailable")]
    )
    _, auth = builder.build(request)
    assert auth.status.status_code is StatusCode.ERROR
    assert _attributes(auth)["error.type"] == "auth_unavailable"


def test_client_disconnect_has_neither_error_nor_status(builder: SpanBuilder) -> None:
    """Status 499 is recorded and never sent."""
    request = kept_request(
        status=499, reason="client_closed", attempts=[kept_attempt(outcome="client_closed", usage=None)]
    )
    server, *_, attempt = builder.build(request)
    attributes = _attributes(server)
    assert attributes["platform.reason"] == "client_closed"
    assert "http.response.status_code" not in attributes
    assert "error.type" not in attributes
    assert attempt.status.status_code is StatusCode.UNSET
    assert _attributes(attempt)["platform.outcome"] == "client_closed"


def test_stream_that_fails_late_is_an_error(builder: SpanBuilder) -> None:
    """Its status is 200, since the head was sent before the failure."""
    request = kept_request(
        kept="failed", reason="provider_stream_broken", attempts=[kept_attempt(outcome="provider_stream_broken")]
    )
    server, *_, attempt = builder.build(request)
    assert server.status.status_code is StatusCode.ERROR
    assert _attributes(server)["error.type"] == "provider_stream_broken"
    assert _attributes(server)["http.response.status_code"] == 200
    assert attempt.status.status_code is StatusCode.ERROR


def test_unmatched_path_and_unknown_method_are_left_out(builder: SpanBuilder) -> None:
    request = kept_request(method="other", route="unmatched", path="/wp-login.php", status=404, attempts=[])
    server = builder.build(request)[0]
    assert server.name == "HTTP"
    attributes = _attributes(server)
    assert attributes["http.request.method"] == "_OTHER"
    assert "url.path" not in attributes
    assert "http.route" not in attributes


def test_texts_from_outside_are_masked_and_cut(builder: SpanBuilder) -> None:
    key = "sk-live-0123456789abcdef0123"
    request = kept_request(
        path=f"/v1/{key}", user_agent=f"curl {key}" + " x" * 1_000, host=f"{key}.example",
        attempts=[kept_attempt(outcome="provider_error", message=f"bad key {key}", response_id=key)],
    )  # fmt: skip
    spans = builder.build(request)
    for span in spans:
        assert key not in span.to_json()
    assert len(str(_attributes(spans[0])["user_agent.original"])) == 512


@pytest.mark.parametrize(("max_tokens", "temperature"), [("500", "warm"), (2**63, True), ([1], {"a": 1}), (True, [])])
def test_odd_parameters_of_client_are_left_out(builder: SpanBuilder, max_tokens: Any, temperature: Any) -> None:
    """OTLP has no such values, and one of them would make the whole batch fail."""
    request = kept_request(attempts=[kept_attempt(max_tokens=max_tokens, temperature=temperature)])
    attributes = _attributes(builder.build(request)[-1])
    assert not {"gen_ai.request.max_tokens", "gen_ai.request.temperature"} & attributes.keys()


def test_content_is_on_the_last_attempt_only(builder: SpanBuilder) -> None:
    request = kept_request(
        attempts=[kept_attempt(outcome="provider_error"), kept_attempt(span_id="2" * 16)],
        content={"prompt": '[{"role": "user"}]', "output": ""},
    )
    *_, first, last = builder.build(request)
    assert "gen_ai.input.messages" not in _attributes(first)
    assert _attributes(last)["gen_ai.input.messages"] == '[{"role": "user"}]'
    assert "gen_ai.output.messages" not in _attributes(last)


def test_line_of_kept_request_is_read_back_as_same() -> None:
    request = kept_request(denied_by="key-rpm", content={"prompt": "[]"})
    read: KeptRequest = parse_line(request.line())
    assert read == request
