"""The command `flowbiz-platform`: what there is to type. Each command's work is in a file of its own.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration.
"""

import sys
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from apps.platform_cli import keys, limits, migrate
from apps.platform_cli.audit import print_audit, utc
from apps.platform_cli.maintenance import run_maintenance
from apps.platform_cli.usage import Format, print_records, print_usage
from platform_app.errors import ConfigurationError, PlatformError
from platform_app.ledger.reader import AuditFilter
from platform_app.ledger.usage_query import DEFAULT_GROUPS, UsageFilter, check_groups
from platform_app.observability.log_sink import LogSink
from platform_app.observability.logging import configure_logging

app = typer.Typer(
    name="flowbiz-platform",
    help="The FlowBiz AI Platform: a guarded gateway in front of LLM providers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback that shows local variables would show secrets
)
app.add_typer(keys.app, name="keys", help="Create, change, rotate and revoke API keys.")
app.add_typer(limits.app, name="limits", help="Explain which limits hold for a key.")
app.add_typer(migrate.app, name="migrate", help="Change the database schema.")

_Moment = Annotated[datetime | None, typer.Option(help="UTC where no zone is given.")]
_day_option = partial(typer.Option, formats=["%Y-%m-%d"])
_Day = Annotated[datetime | None, _day_option(help="The first day, UTC; thirty days before the end without it.")]
_Port = Annotated[int, typer.Option(min=1, max=65535)]


@app.command()
def dev(
    port: _Port = 8100,
    metrics_port: _Port = 9100,
    data_dir: Annotated[Path, typer.Option(help="Where databases, keys and logs are kept.")] = Path(".data"),
    provider_url: Annotated[
        str | None, typer.Option(help="Send every model of the simulator's catalog to this URL instead.")
    ] = None,
) -> None:
    """Start everything on this machine, with nothing installed: databases, simulator, gateway."""
    # Imported here, since the embedded servers are an extra that production does not install.
    from apps.platform_cli.dev import run_dev  # noqa: PLC0415 - see above

    raise typer.Exit(run_dev(port, metrics_port, data_dir, provider_url))


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Wins over PLATFORM_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Wins over PLATFORM_PORT.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Wins over PLATFORM_METRICS_PORT.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Wins over PLATFORM_WORKERS.")] = None,
) -> None:
    """Run the gateway. Refuses to start on a database schema that is not at head."""
    from apps.platform_cli.serve import run_serve  # noqa: PLC0415 - keeps the other commands quick to start

    flags = {"host": host, "port": port, "metrics_port": metrics_port, "workers": workers}
    raise typer.Exit(run_serve({name: value for name, value in flags.items() if value is not None}))


@app.command()
def check(
    live: Annotated[bool, typer.Option(help="Also make one cheap call to each provider: its list of models.")] = True,
) -> None:
    """Check configuration, secrets, database, Redis, providers and core: a line each, exit code 1 if any fails."""
    from apps.platform_cli.checks import run_checks  # noqa: PLC0415 - loads what the other commands do not need

    raise typer.Exit(run_checks(live))


@app.command()
def maintenance() -> None:
    """Make the ledger's partitions of the next days and drop those past retention; the service does so every hour."""
    raise typer.Exit(run_maintenance())


@app.command()
def audit(
    kind: Literal["access", "lifecycle"] | None = None,
    key_id: str | None = None,
    route: Annotated[str | None, typer.Option(help="A route template, such as /v1/platform/chat.")] = None,
    decision: Literal["allow", "deny"] | None = None,
    trace_id: str | None = None,
    since: _Moment = None,
    until: _Moment = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="All that match without it.")] = None,
) -> None:
    """Export who did what as JSON lines, newest first: access decisions and lifecycle changes."""
    wanted = AuditFilter(kind, key_id, route, decision, trace_id, utc(since), utc(until))
    print_audit(wanted, limit)


@app.command()
def usage(
    group_by: Annotated[
        list[str] | None, typer.Option(help="day, key, owner, model or provider; may be repeated. Else day and model.")
    ] = None,
    since: _Day = None,
    until: Annotated[datetime | None, _day_option(help="The day after the last one, UTC; tomorrow without it.")] = None,
    key_id: str | None = None,
    owner: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    format: Annotated[Format | None, typer.Option(help="table without it.")] = None,
    records: Annotated[bool, typer.Option("--records", help="Export single records as JSON lines instead.")] = False,
) -> None:
    """Show what was used and what it cost, by the day, key, owner, model and provider."""
    first, end = (None if moment is None else moment.date() for moment in (since, until))
    wanted = UsageFilter(first, end, key_id, owner, model, provider)
    if not records:
        print_usage(wanted, check_groups(group_by or DEFAULT_GROUPS), format or "table")
    elif group_by or format:
        raise typer.BadParameter("--records are JSON lines and have no groups: leave --group-by and --format out")
    else:
        print_records(wanted)


@app.command()
def simulate(
    host: str = "127.0.0.1",
    port: _Port = 9200,
    ready_file: Annotated[Path | None, typer.Option(help="Written once it listens.")] = None,
) -> None:
    """Run the provider simulator by itself."""
    from apps.provider_simulator.main import run as run_simulator  # noqa: PLC0415 - as for serve

    run_simulator(host, port, ready_file)


def run() -> None:
    """Run the command line; expected failures become a message and an exit code, never a traceback."""
    # Log lines are no part of a command's output. `serve` has its own way.
    configure_logging("warning", "console", LogSink(sys.stderr.fileno()))
    try:
        app()
    except ConfigurationError as error:
        typer.echo("The configuration is not valid:", err=True)
        for problem in error.problems:
            typer.echo(f"  - {problem}", err=True)
        sys.exit(2)
    except PlatformError as error:
        typer.echo(error.message, err=True)
        for detail in error.details or []:
            typer.echo(f"  - {detail}", err=True)
        sys.exit(1)
