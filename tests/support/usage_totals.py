"""Whether the totals of usage are the sums of its records, column by column."""

import asyncpg

_DIFFERENCES = """
    WITH summed AS (
        SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, key_id, owner, provider, model, count(*) AS requests,
            count(*) FILTER (WHERE outcome NOT IN ('ok', 'client_closed')) AS errors,
            count(*) FILTER (WHERE outcome = 'client_closed') AS client_closed, sum(attempts) AS attempts,
            sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,
            sum(cached_tokens) AS cached_tokens, coalesce(sum(cost_microusd), 0) AS cost_microusd,
            count(*) FILTER (WHERE cost_microusd IS NULL) AS requests_without_price,
            count(*) FILTER (WHERE estimated) AS estimated_requests,
            count(first_token_ms) AS requests_with_first_token,
            round(sum(duration_ms::numeric), 1) AS duration_ms,
            round(coalesce(sum(first_token_ms::numeric), 0), 1) AS first_token_ms
        FROM usage_records GROUP BY 1, 2, 3, 4, 5
    ), kept AS (
        SELECT day, key_id, owner, provider, model, requests, errors, client_closed, attempts, prompt_tokens,
            completion_tokens, cached_tokens, cost_microusd, requests_without_price, estimated_requests,
            requests_with_first_token, round(duration_ms::numeric, 1), round(first_token_ms::numeric, 1)
        FROM usage_daily
    )
    (SELECT 'only summed', * FROM (TABLE summed EXCEPT TABLE kept) a) UNION ALL
    (SELECT 'only kept', * FROM (TABLE kept EXCEPT TABLE summed) b)
"""


async def differences(url: str) -> list[asyncpg.Record]:
    """Every total that is not the sum of its records, and every sum without its total."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        rows: list[asyncpg.Record] = await connection.fetch(_DIFFERENCES)
        return rows
    finally:
        await connection.close()
