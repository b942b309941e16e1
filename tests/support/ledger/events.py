"""Access decisions and usage records for tests, and a spool in a separate directory."""

import itertools
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platform_app.ledger.events.event import AccessDecision, UsageRecord
from platform_app.ledger.shipping.tables import TABLES, Retention
from platform_app.ledger.spool.spool import Spool
from platform_app.observability import ids

_numbers = itertools.count(1)


def access(**fields: Any) -> AccessDecision:
    """An event like those of the service, with some fields chosen."""
    return AccessDecision(
        **{
            "event_id": ids.trace_id(),
            "occurred_at": datetime.now(UTC),
            "request_id": f"request-{next(_numbers)}",
            "trace_id": ids.trace_id(),
            "key_id": "k" * 12,
            "method": "POST",
            "route": "/v1/platform/chat",
            "decision": "allow",
            "reason": None,
            "status": 200,
            "client_address": "127.0.0.1",
            "duration_ms": 12.5,
            "owner": "billing",
            "model": "gpt-4o-mini",
            "hops": "limits 147 2110",
            "attempts": None,
            **fields,
        }
    )


def usage(**fields: Any) -> UsageRecord:
    """A record like those of the service, with some fields chosen."""
    return UsageRecord(
        **{
            "event_id": ids.trace_id(),
            "occurred_at": datetime.now(UTC),
            "request_id": f"request-{next(_numbers)}",
            "trace_id": ids.trace_id(),
            "key_id": "k" * 12,
            "owner": "billing",
            "route": "/v1/platform/chat",
            "provider": "openai",
            "model": "gpt-4o-mini",
            "upstream_model": "gpt-4o-mini-2024-07-18",
            "stream": False,
            "prompt_tokens": 100,
            "completion_tokens": 20,
            "cached_tokens": 40,
            "estimated": False,
            "cost_microusd": 27,
            "duration_ms": 812.5,
            "first_token_ms": None,
            "attempts": 1,
            "outcome": "ok",
            "provider_usage": '{"prompt_tokens": 100, "completion_tokens": 20}',
            "upstream_request_id": "req_1",
            "session": None,
            "requested_model": None,
            **fields,
        }
    )


def keeping(days: int) -> Retention:
    """The same retention for every table."""
    return dict.fromkeys(TABLES, days)


def spool_in(directory: Path, **options: Any) -> Spool:
    return Spool(directory, **{"max_bytes": 1 << 30, **options})


def is_failing(spool: Spool) -> bool:
    """A function, since mypy takes a property that was asserted once for unchanging."""
    return spool.failure is not None


def open_files() -> int:
    """The files that this process has open."""
    return len(os.listdir("/proc/self/fd"))
