"""Whether the totals of usage are the sums of its records, column by column."""

import asyncpg

from tests.support.ledger.database import connected

_COUNTS = (
    "day, key_id, owner, provider, model, requests, errors, client_closed, attempts, prompt_tokens, completion_tokens, "
    "cached_tokens, cost_microusd, requests_without_price, estimated_requests, requests_with_first_token"
)
_MOST_MS_APART = 0.001
"""Sums of floating-point numbers depend on the order of the additions; everything else must be equal."""
_DIFFERENCES = f"""
    WITH summed AS (
        SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, key_id, owner, provider, model, count(*) AS requests,
            count(*) FILTER (WHERE outcome NOT IN ('ok', 'client_closed')) AS errors,
            count(*) FILTER (WHERE outcome = 'client_closed') AS client_closed, sum(attempts) AS attempts,
            sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
            sum(cached_tokens) AS cached_tokens, coalesce(sum(cost_microusd), 0) AS cost_microusd,
            count(*) FILTER (WHERE cost_microusd IS NULL) AS requests_without_price,
            count(*) FILTER (WHERE estimated) AS estimated_requests,
            count(first_token_ms) AS requests_with_first_token,
            sum(duration_ms::double precision) AS duration_ms,
            coalesce(sum(first_token_ms::double precision), 0) AS first_token_ms
        FROM usage_records GROUP BY 1, 2, 3, 4, 5
    )
    SELECT {_COUNTS}, summed.duration_ms AS duration_summed, kept.duration_ms AS duration_kept,
        summed.first_token_ms AS first_token_summed, kept.first_token_ms AS first_token_kept
    FROM summed FULL JOIN usage_daily AS kept USING ({_COUNTS})
    WHERE (abs(summed.duration_ms - kept.duration_ms) < {_MOST_MS_APART}
        AND abs(summed.first_token_ms - kept.first_token_ms) < {_MOST_MS_APART}) IS NOT TRUE
"""


async def differences(url: str) -> list[asyncpg.Record]:
    """Every total that is not the sum of its records, and every sum without its total."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows: list[asyncpg.Record] = await connection.fetch(_DIFFERENCES)
        return rows
    finally:
        await connection.close()


async def totals_are_the_sum(url: str, requests: int) -> None:
    """Every column of every total is the sum of its records, of which there are so many."""
    assert await differences(url) == []
    async with connected(url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM usage_records") == requests
        assert await connection.fetchval("SELECT coalesce(sum(requests), 0)::int FROM usage_daily") == requests
