"""`flowbiz-platform serve`: check everything, bind the ports, and become the parent of the workers (`parent.py`).

The process replaces its program (exec), so that the parent keeps the process id, and nothing of what the checks loaded.
"""

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

import typer
from sqlalchemy import text

from apps.platform_cli.checks.spool import full_disk
from apps.platform_cli.serve.options import ParentOptions
from apps.platform_cli.serve.port_holder import port_holder
from apps.platform_cli.serve.start_signals import handle_start_signals, hold_signals
from apps.platform_cli.terminal.output import output_problem
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import (
    ENV_PREFIX,
    SERVICE_LINKS_ADVICE,
    PlatformConfig,
    Settings,
    environment,
    exports_traces,
    load_config,
    load_settings_beside_file,
    misspelt_telemetry_variables,
    service_links,
    telemetry_problems,
    unknown_variables,
)
from platform_app.core_contracts import core_problems
from platform_app.db.engine import make_engine
from platform_app.db.revisions import head_revision, is_newer
from platform_app.db.startup import DatabaseNotUsableError, revision_when_usable
from platform_app.errors import ConfigurationError
from platform_app.ledger.service import spool_problems
from platform_app.observability.logging import configure_logging, get_logger
from platform_app.observability.logs.secret_settings import hide_secrets_of
from platform_app.observability.logs.unhandled import capture_unhandled
from platform_app.resources.owner_checks import OwnerWarnings
from platform_app.resources.required_secrets import secret_problems
from platform_app.secret_store.configured import make_secret_store

CONNECTIONS_BESIDE_POOL = 2
"""Connections of a worker outside its pool: the ledger's and that of readiness."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "1048576", "MALLOC_ARENA_MAX": "2"}
"""For glibc: large bodies get separate mappings, which are returned to the system afterwards. By default the threshold
grows with the first large body, and all later bodies stay in the heap."""

BACKLOG = 2048
METRICS_BACKLOG = 128

_log = get_logger("serve")


def run_serve(flags: Mapping[str, Any]) -> int:
    """Serve until SIGTERM or SIGINT; `flags` override the environment. Return an exit code only if the start failed.

    Raises:
        ConfigurationError: names every problem.
    """
    handle_start_signals()
    if output_problem() is not None:
        typer.echo("stdout cannot be written: log lines are dropped, and only counted in a metric.", err=True)
    settings = load_settings_beside_file(**flags)
    sink = configure_logging(
        settings.log_level, settings.log_format, repeats_per_second=settings.log_repeats_per_second
    )
    hide_secrets_of(settings)
    capture_unhandled()
    config = asyncio.run(_check_configuration(settings))
    if (problem := asyncio.run(_schema_problem(settings))) is not None:
        typer.echo(problem, err=True)
        return 1
    if (wanted := asyncio.run(_connections_beyond(settings))) is not None:
        _log.warning("too_many_database_connections", **wanted)
    asyncio.run(_warn_of_owners(settings, config))
    for line in settings.insecure_connections():
        _log.warning("connection_insecure", problem=line)
    _warn_of_variables()
    if (detail := full_disk(settings.spool_dir)) is not None:
        # No refusal: the start sends what the spool has, which makes room on the disk.
        _log.error("spool_disk_full", directory=str(settings.spool_dir), advice=detail)
    with ExitStack() as stack:
        metrics_host = settings.metrics_host or settings.host
        try:
            listening = stack.enter_context(_listen(settings.host, settings.port, BACKLOG))
        except OSError as error:
            return _complain(error, settings.host, settings.port, "--port")
        try:
            metrics_listening = stack.enter_context(_listen(metrics_host, settings.metrics_port, METRICS_BACKLOG))
        except OSError as error:
            return _complain(error, metrics_host, settings.metrics_port, "--metrics-port")
        environment = {
            **os.environ,
            **{f"{ENV_PREFIX}{name.upper()}": str(value) for name, value in flags.items()},
        }
        environment.pop("PROMETHEUS_MULTIPROC_DIR", None)  # the parent makes a directory for its workers
        for name, value in ALLOCATOR.items():
            environment.setdefault(name, value)
        _parent_options(settings, listening, metrics_listening, environment).store(environment)
        sink.close()
        _become_parent(environment)


def _parent_options(
    settings: Settings, listening: socket.socket, metrics_listening: socket.socket, environment: Mapping[str, str]
) -> ParentOptions:
    return ParentOptions(
        host=settings.host,
        port=settings.port,
        metrics_port=settings.metrics_port,
        workers=settings.workers,
        worker_timeout_seconds=settings.worker_timeout_seconds,
        shutdown_drain_seconds=settings.shutdown_drain_seconds,
        shutdown_grace_seconds=settings.shutdown_grace_seconds,
        metrics_cache_seconds=settings.metrics_cache_seconds,
        log_level=settings.log_level,
        log_format=settings.log_format,
        log_repeats_per_second=settings.log_repeats_per_second,
        exports_traces=exports_traces(environment),
        listening=listening.fileno(),
        metrics_listening=metrics_listening.fileno(),
    )


def _become_parent(environment: Mapping[str, str]) -> NoReturn:
    # The arguments after the module are not read: they say in the list of processes how it was started.
    command = [sys.executable, "-m", "apps.platform_cli.serve.parent", *sys.argv[1:]]
    hold_signals()
    os.execve(sys.executable, command, dict(environment))  # noqa: S606 - our own interpreter, no shell


def _warn_of_variables() -> None:
    unknown = unknown_variables() | misspelt_telemetry_variables(environment())
    if unknown:
        similar = {name: found for name, found in unknown.items() if found is not None}
        _log.warning("unknown_variables", names=sorted(unknown), did_you_mean=similar)
    if links := service_links():
        _log.warning("service_links_ignored", names=links, advice=SERVICE_LINKS_ADVICE)


async def _warn_of_owners(settings: Settings, config: PlatformConfig) -> None:
    engine = make_engine(settings)
    try:
        await OwnerWarnings(engine).log(config)
    finally:
        await engine.dispose()


async def _check_configuration(settings: Settings) -> PlatformConfig:
    problems = spool_problems(settings) + telemetry_problems(environment())
    if settings.require_core:
        problems += [f"PLATFORM_REQUIRE_CORE is set: {problem}" for problem in core_problems()]
    try:
        config = load_config(settings)
    except ConfigurationError as error:
        raise ConfigurationError(error.problems + problems) from None
    secrets = make_secret_store(settings)
    try:
        problems += await secret_problems(settings, config, secrets, settings.start_timeout_seconds)
    finally:
        await secrets.aclose()
    if problems:
        raise ConfigurationError(problems)
    return config


async def _schema_problem(settings: Settings) -> str | None:
    """Return why this database cannot be used, or None. Wait for a database that is still starting."""
    engine = make_engine(settings)
    try:
        current = await revision_when_usable(engine, settings.start_timeout_seconds)
    except DatabaseNotUsableError as error:
        return str(error)
    finally:
        await engine.dispose()
    if current == head_revision() or is_newer(current):
        return None
    return (
        f"The database schema is at {current or 'nothing (an empty database)'}, this version needs {head_revision()}. "
        "Run: flowbiz-platform migrate up"
    )


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
def _listen(host: str, port: int, backlog: int) -> Iterator[socket.socket]:
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may have addresses of both families: the first IPv4 address is used, or the first one without any.
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(backlog)
        listening.setblocking(False)
        listening.set_inheritable(True)
        yield listening
