"""Access decisions: daily partitions, append-only, with functions that add days and drop old ones."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import INET

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.create_table(
        "access_decisions",
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("trace_id", sa.Uuid(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("client_address", INET(), nullable=True),
        sa.Column("duration_ms", sa.REAL(), nullable=False),
        sa.PrimaryKeyConstraint("occurred_at", "event_id", name="pk_access_decisions"),
        sa.CheckConstraint("decision IN ('allow', 'deny')", name=op.f("ck_access_decisions_decision")),
        postgresql_partition_by="RANGE (occurred_at)",
    )
    op.create_index("ix_access_decisions_key_id_occurred_at", "access_decisions", ["key_id", "occurred_at"])
    op.create_index("ix_access_decisions_trace_id", "access_decisions", ["trace_id"])
    # The row-level trigger reaches partitions by inheritance, also for statements that name a partition. PostgreSQL
    # has no such thing for TRUNCATE, so each partition gets a separate trigger when it is created.
    op.execute(
        "CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON access_decisions "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON access_decisions "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )
    # Both run as the tables' owner, so that the runtime role needs no DDL. Hence the fixed search_path, the list of
    # tables, and bounds for what they can be asked: a month ahead at most, and the last six days never dropped (a
    # retention is at least seven; the day between is for clocks that differ).
    op.execute(
        f"""
        CREATE FUNCTION ledger_create_partition(parent text, day date) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '5s' AS $$
        DECLARE
            today date := (now() AT TIME ZONE 'UTC')::date;
            partition text := parent || '_' || to_char(day, 'YYYYMMDD');
        BEGIN
            IF parent IS NULL OR parent <> ALL (ARRAY['access_decisions']) THEN
                RAISE EXCEPTION 'not a table of the ledger' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF day IS NULL OR day < today - 3660 OR day > today + 31 THEN
                RAISE EXCEPTION 'no partition for such a day' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF to_regclass('{schema}.' || partition) IS NOT NULL THEN
                RETURN NULL;
            END IF;
            PERFORM pg_advisory_xact_lock(7202811003);
            -- Not to_regclass again: its cache may not know yet what another session has just made.
            IF EXISTS (SELECT FROM pg_catalog.pg_class
                       WHERE relname = partition AND relnamespace = '{schema}'::regnamespace) THEN
                RETURN NULL;
            END IF;
            -- Attached, not made as a partition: that would lock the parent against reading and writing.
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', partition, parent);
            EXECUTE format(
                'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I '
                'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', partition);
            EXECUTE format(
                'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                parent, partition, day::text || ' 00:00:00+00', (day + 1)::text || ' 00:00:00+00');
            RETURN partition;
        END $$
        """  # noqa: S608 - the schema is quoted, and Alembic's own
    )
    op.execute(
        f"""
        CREATE FUNCTION ledger_drop_partitions(parent text, before date) RETURNS SETOF text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp SET lock_timeout = '2s' AS $$
        DECLARE
            today date := (now() AT TIME ZONE 'UTC')::date;
            partition text;
        BEGIN
            IF parent IS NULL OR parent <> ALL (ARRAY['access_decisions']) THEN
                RAISE EXCEPTION 'not a table of the ledger' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            IF before IS NULL OR before > today - 6 THEN
                RAISE EXCEPTION 'the last days are always kept' USING ERRCODE = 'invalid_parameter_value';
            END IF;
            FOR partition IN
                SELECT c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = ('{schema}.' || parent)::regclass
                AND c.relname ~ ('^' || parent || '_[0-9]{{8}}$')
                AND to_date(right(c.relname, 8), 'YYYYMMDD') < before
                ORDER BY c.relname
            LOOP
                EXECUTE format('DROP TABLE %I', partition);
                RETURN NEXT partition;
            END LOOP;
        END $$
        """  # noqa: S608 - the schema is quoted, and Alembic's own
    )
    for function in ("ledger_create_partition(text, date)", "ledger_drop_partitions(text, date)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")


def downgrade() -> None:
    op.execute("DROP FUNCTION ledger_drop_partitions(text, date)")
    op.execute("DROP FUNCTION ledger_create_partition(text, date)")
    op.drop_table("access_decisions")
