"""Usage records of many kinds, and what a report must say of them, counted in Python."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from platform_app.ledger.events.event import UsageRecord
from tests.support.ledger.events import usage

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
FIELD = {"key": "key_id", "owner": "owner", "model": "model", "provider": "provider"}


def varied(count: int, seed: int = 1) -> list[UsageRecord]:
    """Records of several days, keys, owners, providers, models and outcomes; durations that a real holds exactly."""
    chosen = random.Random(seed)
    return [
        usage(
            occurred_at=NOON - timedelta(days=chosen.randrange(3), minutes=chosen.randrange(700)),
            key_id=chosen.choice(["aaaaaaaaaaaa", "bbbbbbbbbbbb"]),
            owner=chosen.choice(["billing", "search"]),
            provider=chosen.choice(["openai", "azure"]),
            model=chosen.choice(["gpt-4o", "gpt-4o-mini"]),
            stream=chosen.random() < 0.5,
            prompt_tokens=chosen.randrange(10_000),
            completion_tokens=chosen.randrange(1000),
            cached_tokens=chosen.randrange(10),
            estimated=chosen.random() < 0.1,
            cost_microusd=chosen.choice([None, chosen.randrange(100_000)]),
            duration_ms=chosen.randrange(8000) / 4,
            first_token_ms=chosen.choice([None, chosen.randrange(800) / 4]),
            attempts=chosen.randrange(1, 4),
            outcome=chosen.choice(["ok", "ok", "ok", "client_closed", "provider_timeout"]),
        )
        for _ in range(count)
    ]


def expected(records: Sequence[UsageRecord], group_by: Sequence[str]) -> list[dict[str, Any]]:
    """Return the groups of the response, counted in Python."""
    groups: dict[tuple[str, ...], list[UsageRecord]] = {}
    for record in records:
        values = [
            record.occurred_at.date().isoformat() if name == "day" else getattr(record, FIELD[name])
            for name in group_by
        ]
        groups.setdefault(tuple(values), []).append(record)
    names = [FIELD.get(name, name) for name in group_by]
    return [dict(zip(names, values, strict=True)) | sums(groups[values]) for values in sorted(groups)]


def sums(records: Sequence[UsageRecord]) -> dict[str, Any]:
    """Return the totals of the response, counted in Python."""
    first = [record.first_token_ms for record in records if record.first_token_ms is not None]
    prompt, completion = sum(r.prompt_tokens for r in records), sum(r.completion_tokens for r in records)
    return {
        "requests": len(records),
        "errors": sum(r.outcome == "provider_timeout" for r in records),
        "client_closed": sum(r.outcome == "client_closed" for r in records),
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": sum(r.cached_tokens for r in records),
        "total_tokens": prompt + completion,
        "cost_usd": f"{sum(r.cost_microusd or 0 for r in records) / 1e6:.6f}",
        "requests_without_price": sum(r.cost_microusd is None for r in records),
        "estimated_requests": sum(r.estimated for r in records),
        "mean_duration_ms": round(sum(r.duration_ms for r in records) / len(records), 3) if records else None,
        "mean_first_token_ms": round(sum(first) / len(first), 3) if first else None,
    }
