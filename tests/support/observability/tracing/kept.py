"""Kept requests as a worker writes them."""

from collections.abc import Mapping
from typing import Any

from platform_app.observability.tracing.kept_request import KeptAttempt, KeptRequest

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
SERVER_SPAN = "b7ad6b7169203331"
PARENT_SPAN = "00f067aa0ba902b7"
STARTED_AT = 1_795_000_000_000_000_000


def kept_attempt(**fields: Any) -> KeptAttempt:
    """A successful streamed attempt, changed by the fields."""
    defaults: dict[str, Any] = {
        "provider": "openai",
        "model": "gpt-fast",
        "upstream_model": "gpt-5-mini",
        "operation": "chat",
        "stream": True,
        "started": 1_000,
        "ended": 900_000,
        "first_chunk": 201_000,
        "span_id": "1111111111111111",
        "server": "api.openai.com:443",
        "outcome": "ok",
        "status": 200,
        "upstream_request_id": "req_abc",
        "message": None,
        "response_id": "chatcmpl-1",
        "response_model": "gpt-5-mini-2026-08-07",
        "finish_reason": "stop",
        "usage": {"input": 100, "output": 40, "cached": 64, "cache_write": 8, "reasoning": 16},
        "cost_microusd": 1_234,
        "max_tokens": 500,
        "temperature": 0.5,
    }
    return KeptAttempt(**{**defaults, **fields})


def kept_request(**fields: Any) -> KeptRequest:
    """A successful request with one attempt, changed by the fields."""
    defaults: Mapping[str, Any] = {
        "kept": "sampled",
        "trace_id": TRACE_ID,
        "span_id": SERVER_SPAN,
        "parent_id": PARENT_SPAN,
        "sampled": True,
        "started_at": STARTED_AT,
        "ended": 1_000_000,
        "request_id": "01K0REQUEST",
        "method": "POST",
        "route": "/v1/chat/completions",
        "path": "/v1/chat/completions",
        "scheme": "https",
        "http_version": "1.1",
        "host": "gateway.example:8443",
        "user_agent": "OpenAI/Python 3.1.0",
        "client_address": "198.51.100.7",
        "status": 200,
        "decision": "allow",
        "reason": None,
        "key_id": "key_1",
        "owner": "team-search",
        "model": "gpt-fast",
        "overhead": 900,
        "hops": [("auth", 100, 200, "ok"), ("limits", 200, 400, "ok"), ("ledger", 950_000, 951_000, "ok")],
        "attempts": [kept_attempt()],
    }
    return KeptRequest(**{**defaults, **fields})
