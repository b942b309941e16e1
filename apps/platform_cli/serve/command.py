"""`flowbiz-platform serve`: one parent that binds the ports, and N workers that handle the requests.

The parent checks everything first, starts the workers, replaces each one that dies, aggregates their metrics on a
separate port, and forwards SIGTERM and SIGHUP (reload the config file). It handles no request.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import typer
from sqlalchemy import text
from tenacity import RetryError, retry, retry_if_exception, stop_after_delay, wait_exponential_jitter

from apps.platform_cli.serve.port_holder import port_holder
from apps.platform_cli.serve.supervisor import Supervisor
from apps.platform_cli.serve.trace_exporter import TraceExporter
from apps.platform_cli.serve.worker_metrics import serve_metrics
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import (
    ENV_PREFIX,
    SERVICE_LINKS_ADVICE,
    START_TIMEOUT_SECONDS,
    Settings,
    environment,
    exports_traces,
    load_config,
    load_settings,
    misspelt_telemetry_variables,
    service_links,
    telemetry_problems,
    unknown_variables,
)
from platform_app.core_contracts import core_problems
from platform_app.db.engine import make_engine
from platform_app.db.failures import failure_kind, tls_failure
from platform_app.db.migrations import current_revision, head_revision, is_newer
from platform_app.errors import ConfigurationError
from platform_app.ledger.service import spool_problems
from platform_app.observability.logging import configure_logging, get_logger
from platform_app.observability.logs.known_secrets import hide_secrets_of
from platform_app.observability.logs.unhandled import capture_unhandled
from platform_app.resources import make_secret_store, secret_problems

CONNECTIONS_BESIDE_POOL = 2
"""Connections of a worker outside its pool: the ledger's and that of readiness."""
TLS_ADVICE = (
    "Name its CA with PLATFORM_DATABASE_CA_FILE or sslrootcert, and use the host name of its certificate; "
    "sslmode=disable or require in PLATFORM_DATABASE_URL turns verification off."
)

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "2"}
"""For glibc: large bodies get separate mappings, which are returned to the system afterwards. By default the threshold
grows with the first large body, and all later bodies stay in the heap."""

_log = get_logger("serve")


def run_serve(flags: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or SIGINT; `flags` override the environment. Return the exit code.

    Raises:
        ConfigurationError: names every problem.
    """
    settings = load_settings(**flags)
    configure_logging(settings.log_level, settings.log_format, repeats_per_second=settings.log_repeats_per_second)
    hide_secrets_of(settings)
    capture_unhandled()
    asyncio.run(_check_configuration(settings))
    if (problem := asyncio.run(_schema_problem(settings))) is not None:
        typer.echo(problem, err=True)
        return 1
    if (wanted := asyncio.run(_connections_beyond(settings))) is not None:
        _log.warning("too_many_database_connections", **wanted)
    for line in settings.insecure_connections():
        _log.warning("connection_insecure", problem=line)
    _warn_of_variables()
    with ExitStack() as stack:
        metrics_host = settings.metrics_host or settings.host
        try:
            listening = stack.enter_context(_listen(settings.host, settings.port))
        except OSError as error:
            return _complain(error, settings.host, settings.port, "--port")
        try:
            metrics_directory = stack.enter_context(
                serve_metrics(metrics_host, settings.metrics_port, settings.metrics_cache_seconds)
            )
        except OSError as error:
            return _complain(error, metrics_host, settings.metrics_port, "--metrics-port")
        environment = {
            **os.environ,
            **{f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in flags.items()},
            "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory),
        }
        for name, value in ALLOCATOR.items():
            environment.setdefault(name, value)
        exporter = None
        if exports_traces(environment):
            exporter = stack.enter_context(TraceExporter(environment, settings.workers))
        return Supervisor(settings, listening, environment, metrics_directory, exporter=exporter).run()


def _warn_of_variables() -> None:
    unknown = unknown_variables() | misspelt_telemetry_variables(environment())
    if unknown:
        similar = {name: found for name, found in unknown.items() if found is not None}
        _log.warning("unknown_variables", names=sorted(unknown), did_you_mean=similar)
    if links := service_links():
        _log.warning("service_links_ignored", names=links, advice=SERVICE_LINKS_ADVICE)


async def _check_configuration(settings: Settings) -> None:
    problems = spool_problems(settings) + telemetry_problems(environment())
    if settings.require_core:
        problems += [f"PLATFORM_REQUIRE_CORE is set: {problem}" for problem in core_problems()]
    try:
        config = load_config(settings)
    except ConfigurationError as error:
        raise ConfigurationError(error.problems + problems) from None
    secrets = make_secret_store(settings)
    try:
        problems += await secret_problems(settings, config, secrets)
    finally:
        await secrets.aclose()
    if problems:
        raise ConfigurationError(problems)


async def _schema_problem(settings: Settings) -> str | None:
    """Return why this database cannot be used, or None. Wait for a database that is still starting."""
    engine = make_engine(settings)

    @retry(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_delay(START_TIMEOUT_SECONDS),
        wait=wait_exponential_jitter(initial=0.1, max=2),
    )
    async def revision() -> str | None:
        return await current_revision(engine)

    try:
        current = await revision()
    except RetryError as error:
        why = type(error.last_attempt.exception()).__name__
        return f"The database did not respond within {START_TIMEOUT_SECONDS:g} s ({why}). Check PLATFORM_DATABASE_URL."
    except DATABASE_ERRORS as error:
        return f"No connection to the database: {failure_kind(error)}. {TLS_ADVICE}"
    finally:
        await engine.dispose()
    if current == head_revision() or is_newer(current):
        return None
    return (
        f"The database schema is at {current or 'nothing (an empty database)'}, this version needs {head_revision()}. "
        "Run: flowbiz-platform migrate up"
    )


def _may_pass(error: BaseException) -> bool:
    """Return whether to retry. A certificate failure is permanent."""
    return isinstance(error, DATABASE_ERRORS) and tls_failure(error) is None


async def _connections_beyond(settings: Settings) -> dict[str, int] | None:
    """Return the connections that all workers of all replicas may open and those that the server allows, if they do not
    fit. (Behind PgBouncer the server's limit does not apply, so this is only a warning.)"""
    engine = make_engine(settings)
    try:
        async with engine.connect() as connection:
            allowed = int((await connection.execute(text("SHOW max_connections"))).scalar_one())
            reserved = int((await connection.execute(text("SHOW superuser_reserved_connections"))).scalar_one())
    except DATABASE_ERRORS:
        return None  # it responded a moment ago; the workers will report it
    finally:
        await engine.dispose()
    wanted = (settings.database_pool_size + CONNECTIONS_BESIDE_POOL) * settings.workers * settings.replicas
    return {"wanted": wanted, "allowed": allowed - reserved} if wanted > allowed - reserved else None


def _complain(error: OSError, host: str, port: int, flag: str) -> int:
    holder = port_holder(port) if error.errno == errno.EADDRINUSE else None
    reason = f"{error.strerror or error}{f' by {holder}' if holder else ''}"
    advice = f"choose another with {flag}"
    if error.errno == errno.EACCES:
        advice += ", or give the process the capability CAP_NET_BIND_SERVICE"
    elif isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        advice = "the host must be an address of this machine: correct PLATFORM_HOST or PLATFORM_METRICS_HOST"
    typer.echo(f"{reason}: {host}:{port} ({advice})", err=True)
    return 2


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
        listening.setblocking(False)
        yield listening
