"""Usage records: daily partitions, append-only, and their totals by the day, which the database itself adds up.

Runs while the version before serves: it makes new tables, and gives the two functions of 0002 a second table to know.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_WITHOUT, _WITH = "ARRAY['access_decisions']", "ARRAY['access_decisions', 'usage_records']"


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    _create_records()
    _create_totals()
    # The trigger adds up, and not the writer: totals include exactly the rows that were new, in the same transaction,
    # with every version of the writer, and the runtime role needs no right to change a total. The rows are sorted, so
    # that two batches lock the rows that they share in the same order.
    op.execute(
        f"""
        CREATE FUNCTION usage_add_up() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp AS $$
        BEGIN
            INSERT INTO usage_daily AS total (
                day, key_id, owner, provider, model,
                requests, errors, client_closed, attempts, prompt_tokens, completion_tokens, cached_tokens,
                cost_microusd, requests_without_price, estimated_requests,
                duration_ms, first_token_ms, requests_with_first_token
            )
            SELECT (occurred_at AT TIME ZONE 'UTC')::date, key_id, owner, provider, model,
                count(*),
                count(*) FILTER (WHERE outcome NOT IN ('ok', 'client_closed')),
                count(*) FILTER (WHERE outcome = 'client_closed'),
                sum(attempts), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),
                coalesce(sum(cost_microusd), 0),
                count(*) FILTER (WHERE cost_microusd IS NULL),
                count(*) FILTER (WHERE estimated),
                sum(duration_ms::double precision),
                coalesce(sum(first_token_ms::double precision), 0),
                count(first_token_ms)
            FROM added GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5
            ON CONFLICT (day, key_id, owner, provider, model) DO UPDATE SET
                requests = total.requests + excluded.requests,
                errors = total.errors + excluded.errors,
                client_closed = total.client_closed + excluded.client_closed,
                attempts = total.attempts + excluded.attempts,
                prompt_tokens = total.prompt_tokens + excluded.prompt_tokens,
                completion_tokens = total.completion_tokens + excluded.completion_tokens,
                cached_tokens = total.cached_tokens + excluded.cached_tokens,
                cost_microusd = total.cost_microusd + excluded.cost_microusd,
                requests_without_price = total.requests_without_price + excluded.requests_without_price,
                estimated_requests = total.estimated_requests + excluded.estimated_requests,
                duration_ms = total.duration_ms + excluded.duration_ms,
                first_token_ms = total.first_token_ms + excluded.first_token_ms,
                requests_with_first_token = total.requests_with_first_token + excluded.requests_with_first_token;
            RETURN NULL;
        END $$
        """  # noqa: S608 - the schema is quoted, and Alembic's own
    )
    op.execute(
        "CREATE TRIGGER add_up AFTER INSERT ON usage_records REFERENCING NEW TABLE AS added "
        "FOR EACH STATEMENT EXECUTE FUNCTION usage_add_up()"
    )
    # Totals end with their records; the same bounds as for dropping a partition.
    op.execute(
        f"""
        CREATE FUNCTION usage_drop_totals(before date) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s' AS $$
        DECLARE
            dropped bigint;
        BEGIN
            IF before IS NULL OR before > (now() AT TIME ZONE 'UTC')::date - 6 THEN
                RAISE EXCEPTION 'the last days are always kept' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            DELETE FROM usage_daily WHERE day < before;
            GET DIAGNOSTICS dropped = ROW_COUNT;
            RETURN dropped;
        END $$
        """  # noqa: S608 - the schema is quoted, and Alembic's own
    )
    for function in ("usage_add_up()", "usage_drop_totals(date)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
    _change_known_tables(_WITHOUT, _WITH)


def downgrade() -> None:
    _change_known_tables(_WITH, _WITHOUT)
    op.execute("DROP FUNCTION usage_drop_totals(date)")
    op.drop_table("usage_records")
    op.execute("DROP FUNCTION usage_add_up()")
    op.drop_table("usage_daily")


def _create_records() -> None:
    # Wide columns first, so that no row has holes for alignment.
    op.create_table(
        "usage_records",
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("cost_microusd", sa.BigInteger(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("completion_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("duration_ms", sa.REAL(), nullable=False),
        sa.Column("first_token_ms", sa.REAL(), nullable=True),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("stream", sa.Boolean(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("upstream_model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("occurred_at", "event_id", name="pk_usage_records"),
        postgresql_partition_by="RANGE (occurred_at)",
    )
    op.create_index("ix_usage_records_key_id_occurred_at", "usage_records", ["key_id", "occurred_at"])
    # As for access_decisions; TRUNCATE of a partition is refused by a trigger that ledger_create_partition makes.
    op.execute(
        "CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON usage_records "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_records "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def _create_totals() -> None:
    counts = (
        "requests", "errors", "client_closed", "attempts", "prompt_tokens", "completion_tokens", "cached_tokens",
        "cost_microusd", "requests_without_price", "estimated_requests", "requests_with_first_token",
    )  # fmt: skip
    op.create_table(
        "usage_daily",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in counts),
        sa.Column("duration_ms", sa.Double(), nullable=False),
        sa.Column("first_token_ms", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("day", "key_id", "owner", "provider", "model", name="pk_usage_daily"),
        # Today's rows change twice a second: with room in their page that needs no new entries in the indexes.
        postgresql_with={"fillfactor": 80},
    )
    op.create_index("ix_usage_daily_key_id_day", "usage_daily", ["key_id", "day"])


def _change_known_tables(before: str, after: str) -> None:
    """Replace the list of tables in the functions of 0002, and nothing else of them; owner and grants stay."""
    connection = op.get_bind()
    for function in ("ledger_create_partition(text, date)", "ledger_drop_partitions(text, date)"):
        definition = connection.scalar(
            sa.text("SELECT pg_get_functiondef(to_regprocedure(:function))"), {"function": function}
        )
        if definition.count(before) != 1:
            raise RuntimeError(f"{function} is not as migration 0002 made it")
        connection.exec_driver_sql(definition.replace(before, after))
