-- The two roles of the platform, and what the runtime role may do. Plain SQL, for psql or any client; safe to repeat.
--
-- 1. As a superuser, connected to the platform's database: run this file. It makes the roles.
-- 2. Give both a password (\password flowbiz_platform_owner in psql), or authenticate them in another way.
-- 3. As flowbiz_platform_owner: flowbiz-platform migrate up
-- 4. `migrate up` as flowbiz_platform_owner grants at its end. If another role migrates, run this file again after every
--    migration, as a superuser or the owner.
-- 5. Run the gateway as flowbiz_platform_runtime.
--
-- The runtime role reads and adds records, and can neither change nor remove one: no UPDATE, DELETE or TRUNCATE on
-- audit_events, access_decisions and usage_records, and no DDL. Triggers refuse these to the owner too, who could drop
-- the triggers. Retention drops whole days, by functions that always keep the last six. To take even that from the
-- runtime role, revoke EXECUTE on ledger_drop_partitions and usage_drop_totals, and run `flowbiz-platform maintenance`
-- as the owner, from cron.

BEGIN;

-- Waits for migrations that run, and they wait for this: AdvisoryLock.MIGRATIONS.
DO $$
BEGIN
    PERFORM pg_advisory_xact_lock(7202811001);
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowbiz_platform_owner') THEN
        CREATE ROLE flowbiz_platform_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowbiz_platform_runtime') THEN
        CREATE ROLE flowbiz_platform_runtime LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
END $$;

-- The schema: the one that holds the platform's tables, else the first of the search_path (usually `public`).
DO $$
DECLARE
    found name[] := ARRAY(
        SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'api_key_secrets' AND c.relkind = 'r' ORDER BY 1
    );
BEGIN
    IF cardinality(found) > 1 AND NOT current_schema() = ANY (found) THEN
        RAISE EXCEPTION 'several schemas hold the platform''s tables: %', array_to_string(found, ', ')
            USING HINT = 'SET search_path to the one that is meant, and run this file again.';
    END IF;
    IF current_schema() IS NULL AND cardinality(found) = 0 THEN
        RAISE EXCEPTION 'no schema of the search_path exists' USING HINT = 'Create the schema first.';
    END IF;
    PERFORM set_config('flowbiz_platform.schema', CASE
        WHEN cardinality(found) = 0 OR current_schema() = ANY (found) THEN current_schema() ELSE found[1] END, false);
    RAISE NOTICE 'The roles get their rights in the schema %.', current_setting('flowbiz_platform.schema');
END $$;

-- TEMPORARY, for the ledger's staging table.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO flowbiz_platform_owner, flowbiz_platform_runtime',
                   current_database());
END $$;
DO $$
DECLARE
    place name := current_setting('flowbiz_platform.schema');
BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', place);
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO flowbiz_platform_owner', place);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO flowbiz_platform_runtime', place);
END $$;

-- A database that was migrated by another role goes over to the owner, partitions and functions included.
DO $$
DECLARE
    mine name[] := ARRAY['api_keys', 'api_key_secrets', 'audit_events', 'access_decisions', 'usage_records',
                         'usage_daily', 'alembic_version'];
    item record;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RETURN;
    END IF;
    FOR item IN
        SELECT c.oid::regclass AS name FROM pg_class c
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
        LEFT JOIN pg_class p ON p.oid = i.inhparent
        WHERE c.relnamespace = quote_ident(current_setting('flowbiz_platform.schema'))::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relname = ANY (mine) OR p.relname = ANY (mine))
        AND c.relowner <> 'flowbiz_platform_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO flowbiz_platform_owner', item.name);
    END LOOP;
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = quote_ident(current_setting('flowbiz_platform.schema'))::regnamespace AND proowner <> 'flowbiz_platform_owner'::regrole
        AND proname IN ('refuse_change', 'ledger_create_partition', 'ledger_drop_partitions', 'usage_add_up',
                        'usage_drop_totals')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO flowbiz_platform_owner', item.name);
    END LOOP;
END $$;

-- Grants, on what the migrations have made so far. Partitions are reached through their parent and need none.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT * FROM (VALUES
            ('api_keys', 'SELECT, INSERT, UPDATE'),
            ('api_key_secrets', 'SELECT, INSERT, UPDATE, DELETE'), -- a rotation ends the secret before the last
            ('audit_events', 'SELECT, INSERT'),
            ('access_decisions', 'SELECT, INSERT'),
            ('usage_records', 'SELECT, INSERT'),
            ('usage_daily', 'SELECT'), -- a trigger on usage_records adds it up, as the owner
            ('alembic_version', 'SELECT')
        ) AS wanted (name, rights)
        WHERE to_regclass(format('%I.%I', current_setting('flowbiz_platform.schema'), name)) IS NOT NULL
    LOOP
        EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC, flowbiz_platform_runtime',
                       current_setting('flowbiz_platform.schema'), item.name);
        EXECUTE format('GRANT %s ON %I.%I TO flowbiz_platform_runtime',
                       item.rights, current_setting('flowbiz_platform.schema'), item.name);
    END LOOP;
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = quote_ident(current_setting('flowbiz_platform.schema'))::regnamespace
        AND proname IN ('ledger_create_partition', 'ledger_drop_partitions', 'usage_drop_totals')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO flowbiz_platform_runtime', item.name);
    END LOOP;
END $$;

COMMIT;
