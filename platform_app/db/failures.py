"""Why PostgreSQL failed: each error's cause and the next step, without a name, an address or a credential.

`serve`, `check`, `migrate`, the other commands, `/readyz` and the log use this one function.
"""

from types import MappingProxyType

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeout

from platform_app.connection_failures import Failure, error_chain, lost, network_failure, tls_failure

SETTING = "PLATFORM_DATABASE_URL"
_GRANTS = "run deploy/roles.sql as a superuser; it belongs after every `flowbiz-platform migrate up`"
_MIGRATE = "run: flowbiz-platform migrate up"

READ_ONLY = Failure(
    "it is read-only (a replica, or default_transaction_read_only)",
    f"name the primary in {SETTING}; with several hosts add target_session_attrs=read-write",
)

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE = MappingProxyType(
    {
        "28P01": Failure(
            "the password is wrong, or the role does not exist", f"correct user and password in {SETTING}", passes=False
        ),
        "3D000": Failure("the database does not exist", f"create it (createdb), or correct its name in {SETTING}"),
        "53300": Failure(
            "it has too many connections",
            "raise its max_connections or the role's limit, or lower PLATFORM_DATABASE_POOL_SIZE, workers, replicas",
        ),
        "53100": Failure("its disk is full", "free space on the database server"),
        "53200": Failure("it has no free memory", "see the database server's log"),
        "57P01": Failure("it ended the connection (shutdown, or an administrator)", "see the database server's log"),
        "57P02": Failure("it restarts after a crash", "see the database server's log"),
        "57P03": Failure("it is starting up or shutting down", "wait, and see the database server's log"),
        "57014": Failure("a statement was cancelled or exceeded statement_timeout", "see the database server's log"),
        "55P03": Failure("a lock was not available in time (lock_timeout)", "end the long transaction, and repeat"),
        "25006": READ_ONLY,
        "42501": Failure("the role lacks a permission", _GRANTS, passes=False),
        "42P01": Failure("a table is missing or not visible", f"{_MIGRATE}; then {_GRANTS}", passes=False),
        "42703": Failure("a column is missing", _MIGRATE, passes=False),
        "42883": Failure("a function is missing or not visible", f"{_MIGRATE}; then {_GRANTS}", passes=False),
        "3F000": Failure("the schema does not exist", f"correct search_path in {SETTING}", passes=False),
        "26000": Failure(
            "a prepared statement is missing, as behind PgBouncer", "set PLATFORM_DATABASE_STATEMENT_CACHE=false"
        ),
        "42P05": Failure(
            "a prepared statement exists already, as behind PgBouncer", "set PLATFORM_DATABASE_STATEMENT_CACHE=false"
        ),
        "22023": Failure("it refuses a setting of the session", f"correct `options` in {SETTING}", passes=False),
        "42704": Failure("it does not know a setting of the session", f"correct `options` in {SETTING}", passes=False),
    }
)
_NOT_ALLOWED = Failure(
    "its pg_hba.conf does not allow this role, database and address",
    "add a line to pg_hba.conf, and reload PostgreSQL",
    passes=False,
)
_TLS_ONLY = Failure("it accepts TLS connections only", f"write sslmode=verify-full in {SETTING}", passes=False)
_NO_LOGIN = Failure("the role may not log in", "ALTER ROLE … LOGIN, as in deploy/roles.sql", passes=False)
_NO_ROLE = Failure("the role does not exist", f"run deploy/roles.sql, or correct the user in {SETTING}", passes=False)
_NO_SUCH_HOST = Failure(
    "none of its hosts is of the kind that target_session_attrs asks for",
    f"name the primary among the hosts of {SETTING}",
)
_POOL = Failure(
    "all connections of this process's pool were in use for too long",
    "raise PLATFORM_DATABASE_POOL_SIZE, or find slow statements",
)
_POOLER = Failure(
    "the pooler does not know this user, database or startup parameter",
    f"correct PgBouncer's configuration, or user, database and `options` in {SETTING}",
    passes=False,
)


def database_failure(error: BaseException) -> Failure:
    """Return the cause of one of DATABASE_ERRORS and the next step."""
    if (problem := tls_failure(error)) is not None:
        remedy = f"name its CA (PLATFORM_DATABASE_CA_FILE, sslrootcert), and its certificate's host in {SETTING}"
        if "TLS" in problem:
            remedy = f"check the port in {SETTING}; sslmode=disable connects without TLS"
        return Failure(problem, remedy, passes=False)
    for each in error_chain(error):
        if isinstance(each, PoolTimeout):
            return _POOL
        if isinstance(each, asyncpg.exceptions.TargetServerAttributeNotMatched):
            return _NO_SUCH_HOST
        if isinstance(each, asyncpg.exceptions.ConnectionDoesNotExistError):
            return lost(SETTING)
        state = getattr(each, "sqlstate", None)
        if isinstance(state, str) and (found := _by_state(state, str(each))) is not None:
            return found
    return network_failure(error, SETTING) or _unknown(error)


def _by_state(state: str, message: str) -> Failure | None:
    if state in _BY_STATE:
        return _BY_STATE[state]
    if "no such database" in message or "no such user" in message or "startup parameter" in message:
        return _POOLER
    if state == "28000":
        if "no encryption" in message or "SSL off" in message:
            return _TLS_ONLY
        if "does not exist" in message:
            return _NO_ROLE
        return _NO_LOGIN if "not permitted to log in" in message else _NOT_ALLOWED
    if state in ("08003", "08006"):
        return lost(SETTING)
    return Failure(f"it reports the error {state}", "see the database server's log")


def _unknown(error: BaseException) -> Failure:
    """Return the class that says most: that of the driver, where SQLAlchemy wrapped it."""
    innermost = list(error_chain(error))[-1] if getattr(error, "orig", None) else error
    if type(innermost).__name__ in ("InterfaceError", "InternalClientError"):
        return lost(SETTING)
    return Failure(f"it failed ({type(innermost).__name__})", f"check {SETTING}, and the database server's log")
