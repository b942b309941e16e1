#!/bin/sh
# Runs once, when PostgreSQL's data directory is created: gives the roles of roles.sql their passwords, and makes a role that
# may only read, for Grafana. The passwords come from files and appear in no process list.
set -eu
{
  for role in owner runtime; do
    printf "ALTER ROLE flowbiz_platform_%s PASSWORD '%s';\n" "$role" "$(cat "/run/secrets/${role}_password")"
  done
  printf "CREATE ROLE flowbiz_grafana LOGIN PASSWORD '%s';\n" "$(cat /run/secrets/grafana_reader_password)"
  cat <<'SQL'
GRANT CONNECT ON DATABASE platform TO flowbiz_grafana;
GRANT USAGE ON SCHEMA public TO flowbiz_grafana;
ALTER DEFAULT PRIVILEGES FOR ROLE flowbiz_platform_owner IN SCHEMA public GRANT SELECT ON TABLES TO flowbiz_grafana;
SQL
} | psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname platform
