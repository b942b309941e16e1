"""Access decisions for tests, and a spool in a directory of its own."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platform_app.ledger.event import AccessDecision
from platform_app.ledger.spool import Spool
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
            **fields,
        }
    )


def spool_in(directory: Path, **options: Any) -> Spool:
    return Spool(directory, **{"max_bytes": 1 << 30, **options})


def is_failing(spool: Spool) -> bool:
    """A function, since mypy takes a property that was asserted once for unchanging."""
    return spool.failing
