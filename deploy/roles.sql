-- The two roles of the platform, and what the runtime role may do. Plain SQL, for psql or any client; safe to repeat.
--
-- 1. As a superuser, connected to the platform's database: run this file. It makes the roles.
-- 2. Give both a password (\password flowbiz_platform_owner in psql), or authenticate them in another way.
-- 3. As flowbiz_platform_owner: flowbiz-platform migrate up
-- 4. As a superuser or the owner: run this file again, now and after every migration. It grants.
-- 5. Run the gateway as flowbiz_platform_runtime.
--
-- The runtime role reads and adds records, and can neither change nor remove one: no UPDATE, DELETE or TRUNCATE on
-- audit_events, access_decisions and usage_records, and no DDL. Triggers refuse these to the owner too, who could drop
-- the triggers. Retention drops whole days, by functions that always keep the last six. To take even that from the
-- runtime role, revoke EXECUTE on ledger_drop_partitions and usage_drop_totals, and run `flowbiz-platform maintenance`
-- as the owner, from cron.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowbiz_platform_owner') THEN
        CREATE ROLE flowbiz_platform_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowbiz_platform_runtime') THEN
        CREATE ROLE flowbiz_platform_runtime LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;
    END IF;
END $$;

-- TEMPORARY, for the ledger's staging table.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO flowbiz_platform_owner, flowbiz_platform_runtime',
                   current_database());
END $$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO flowbiz_platform_owner;
GRANT USAGE ON SCHEMA public TO flowbiz_platform_runtime;

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
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relname = ANY (mine) OR p.relname = ANY (mine))
        AND c.relowner <> 'flowbiz_platform_owner'::regrole
    LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO flowbiz_platform_owner', item.name);
    END LOOP;
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND proowner <> 'flowbiz_platform_owner'::regrole
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
        WHERE to_regclass('public.' || name) IS NOT NULL
    LOOP
        EXECUTE format('REVOKE ALL ON public.%I FROM PUBLIC, flowbiz_platform_runtime', item.name);
        EXECUTE format('GRANT %s ON public.%I TO flowbiz_platform_runtime', item.rights, item.name);
    END LOOP;
    FOR item IN
        SELECT oid::regprocedure AS name FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
        AND proname IN ('ledger_create_partition', 'ledger_drop_partitions', 'usage_drop_totals')
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', item.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO flowbiz_platform_runtime', item.name);
    END LOOP;
END $$;
