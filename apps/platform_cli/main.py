"""The command `flowbiz-platform`: every command with its options. Each command's work is in its own module.

Exit codes are in `terminal/entry.py`; `usage reconcile` has another, 3: the bill differs.
"""

import sys
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from apps.platform_api.version import VERSION
from apps.platform_cli import keys
from apps.platform_cli.database import migrate
from apps.platform_cli.database.maintenance import run_maintenance
from apps.platform_cli.reading import limits
from apps.platform_cli.reading.audit import print_audit, utc
from apps.platform_cli.reading.requests import show_request
from apps.platform_cli.terminal.durations import day, moment
from apps.platform_cli.terminal.entry import run_app
from apps.platform_cli.usage.command import Format, print_records, print_usage
from platform_app.ledger.reading.audit import AuditFilter
from platform_app.ledger.reading.usage_query import DEFAULT_GROUPS, UsageFilter, check_groups
from platform_app.observability.logging import configure_logging
from platform_app.observability.logs.level import Level
from platform_app.observability.logs.sink import LogSink

app = typer.Typer(
    name="flowbiz-platform",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a traceback that shows local variables would show secrets
)
app.add_typer(keys.app, name="keys", help="Create, change, rotate and revoke API keys.")
app.add_typer(limits.app, name="limits", help="Explain which limits apply to a key.")
app.add_typer(migrate.app, name="migrate", help="Change the database schema.")

BillFormat = Literal["openai", "openai-cost", "anthropic", "anthropic-cost"]
_Moment = Annotated[
    datetime | None,
    typer.Option(
        parser=moment, metavar="TIME", help="2026-11-26T10:00, UTC if it has no zone; or 2h for two hours ago."
    ),
]
_word_option = partial(typer.Option, case_sensitive=False)
_day_option = partial(typer.Option, parser=day, metavar="DAY")
_Day = Annotated[datetime | None, _day_option(help="The first day, UTC; by default thirty days before the end.")]
_Port = Annotated[int, typer.Option(min=1, max=65535)]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flowbiz-platform {VERSION}")
        raise typer.Exit


@app.callback()
def flowbiz_platform(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The FlowBiz AI Platform: a guarded gateway in front of LLM providers."""


@app.command()
def dev(
    port: _Port = 8100,
    metrics_port: _Port = 9100,
    data_dir: Annotated[Path, typer.Option(help="The directory for databases, keys and logs.")] = Path(".data"),
    provider_url: Annotated[
        str | None, typer.Option(help="Send every model of the simulator's catalog to this URL instead.")
    ] = None,
    observe: Annotated[
        bool, typer.Option("--observe", help="Also start Prometheus, if it is installed, with the rules of alerts/.")
    ] = False,
    prometheus_port: Annotated[int, typer.Option(min=1, max=65535, help="The port of --observe.")] = 9090,
) -> None:
    """Start everything on this machine without installing servers: databases, simulator, gateway."""
    # Imported here, because production does not install the extra with the embedded servers.
    from apps.platform_cli.dev.command import run_dev  # noqa: PLC0415 - see above

    raise typer.Exit(
        run_dev(port, metrics_port, data_dir.expanduser(), provider_url, prometheus_port if observe else None)
    )


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Overrides PLATFORM_HOST.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides PLATFORM_PORT.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Overrides PLATFORM_METRICS_PORT.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=256, help="Overrides PLATFORM_WORKERS.")] = None,
) -> None:
    """Run the gateway. It refuses to start on a database schema that is older than this version."""
    from apps.platform_cli.serve.command import run_serve  # noqa: PLC0415 - keeps the other commands quick to start

    flags = {"host": host, "port": port, "metrics_port": metrics_port, "workers": workers}
    raise typer.Exit(run_serve({name: value for name, value in flags.items() if value is not None}))


@app.command()
def check(
    live: Annotated[bool, typer.Option(help="Also make one cheap call to each provider: its list of models.")] = True,
    before_migration: Annotated[
        bool, typer.Option("--before-migration", help="A schema that `migrate up` brings to head is a warning.")
    ] = False,
) -> None:
    """Check configuration, secrets, database, Redis, providers and core: a line each, exit code 1 if a check fails."""
    from apps.platform_cli.checks.command import run_checks  # noqa: PLC0415 - loads what the other commands do not need

    _log_to_stderr("error")  # each warning is a line of the checks
    raise typer.Exit(run_checks(live, before_migration=before_migration))


@app.command()
def smoke(
    base_url: Annotated[
        str, typer.Option(envvar="PLATFORM_BASE_URL", help="The gateway's address, such as https://gateway.example.")
    ],
    context: typer.Context,
    key: Annotated[
        str | None,
        typer.Option(envvar="PLATFORM_CHAT_KEY", help="An API key; the variable keeps it out of the process list."),
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="A file with the API key; it is used instead of the variable.")
    ] = None,
    expect_sha: Annotated[str | None, typer.Option(help="Fail unless /v1/meta shows this build_sha.")] = None,
    metrics_url: Annotated[
        str | None, typer.Option(envvar="PLATFORM_METRICS_URL", help="Also check that its metrics count the requests.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A public model name; the gateway's default model without it.")
    ] = None,
    embedding_model: Annotated[str | None, typer.Option(help="Else the first one of GET /v1/models.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for all checks together.")] = 60.0,
    trace_url: Annotated[
        str | None,
        typer.Option(
            help="Where the trace backend returns one trace, such as http://jaeger:16686/api/traces/{trace_id}."
        ),
    ] = None,
    record_seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for each metric, trace and record of a request.")
    ] = 15.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Check a running gateway from outside, as its users see it; for the end of a deploy.

    Exit code 0: every check passed or was skipped. 1: a check failed. 2: wrong usage.
    """
    from apps.platform_cli.smoke.command import run_smoke, smoke_key  # noqa: PLC0415 - loads the openai package
    from apps.platform_cli.smoke.session import SmokeOptions  # noqa: PLC0415 - as above

    source = context.get_parameter_source("key")
    if key_file is not None and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("--key and --key-file exclude each other")
    options = SmokeOptions(
        base_url,
        smoke_key(key, key_file),
        expect_sha,
        metrics_url,
        model,
        embedding_model,
        timeout,
        trace_url,
        record_seconds,
    )
    raise typer.Exit(run_smoke(options, as_json=as_json))


@app.command()
def maintenance() -> None:
    """Create the ledger's partitions for the next days and drop those past retention; the gateway does so hourly."""
    raise typer.Exit(run_maintenance())


@app.command()
def audit(
    kind: Annotated[Literal["access", "lifecycle"] | None, _word_option()] = None,
    key_id: str | None = None,
    route: Annotated[str | None, typer.Option(help="A route template, such as /v1/platform/chat.")] = None,
    decision: Annotated[Literal["allow", "deny"] | None, _word_option()] = None,
    trace_id: str | None = None,
    request_id: str | None = None,
    since: _Moment = None,
    until: _Moment = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=1000, help="At most this many entries; all by default.")
    ] = None,
) -> None:
    """Export access decisions and lifecycle changes as JSON lines, newest first."""
    wanted = AuditFilter(kind, key_id, route, decision, trace_id, request_id, utc(since), utc(until))
    print_audit(wanted, limit)


@app.command()
def request(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A request id, a trace id, or the value of a traceparent header.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show what happened to one request: decision, model, owner, usage, and the time line of hops and attempts.

    Exit code 0: found. 1: not found, or the database cannot be read. 2: wrong usage.
    """
    raise typer.Exit(show_request(identifier, as_json=as_json))


usage_app = typer.Typer(invoke_without_command=True)
app.add_typer(usage_app, name="usage")


@usage_app.callback()
def usage(
    context: typer.Context,
    group_by: Annotated[
        list[str] | None,
        typer.Option(help="day, key, owner, model or provider; may be repeated. Default: day and model."),
    ] = None,
    since: _Day = None,
    until: Annotated[datetime | None, _day_option(help="The day after the last one, UTC; tomorrow by default.")] = None,
    key_id: str | None = None,
    owner: str | None = None,
    model: str | None = None,
    provider: str | None = None,
    session: Annotated[str | None, typer.Option(help="Only the records of this session; with --records.")] = None,
    format: Annotated[Format | None, _word_option(help="Default: table.")] = None,
    records: Annotated[bool, typer.Option("--records", help="Export single records as JSON lines instead.")] = False,
) -> None:
    """Show usage and cost by day, key, owner, model and provider."""
    if context.invoked_subcommand is not None:
        return
    first, end = (None if moment is None else moment.date() for moment in (since, until))
    wanted = UsageFilter(first, end, key_id, owner, model, provider, session)
    if not records:
        if session is not None:
            raise typer.BadParameter("--session finds single records, and totals have no sessions: add --records")
        groups = check_groups([each.strip().lower() for each in group_by or DEFAULT_GROUPS])
        print_usage(wanted, groups, format or "table")
    elif group_by or format:
        raise typer.BadParameter("--records writes JSON lines without groups: leave --group-by and --format out")
    else:
        print_records(wanted)


@usage_app.command()
def reconcile(
    bill: Annotated[Path, typer.Argument(help="A CSV file, such as an export of OpenAI or Anthropic.")],
    provider: Annotated[str, typer.Option(help="The provider's name in the config file.")] = "openai",
    since: _Day = None,
    until: Annotated[
        datetime | None, _day_option(help="The day after the last one; by default that of the bill.")
    ] = None,
    form: Annotated[
        BillFormat | None, _word_option("--format", help="By default it is detected by the header.")
    ] = None,
    day_column: str | None = None,
    model_column: str | None = None,
    input_column: Annotated[
        list[str] | None, typer.Option(help="All input tokens; several columns are added up.")
    ] = None,
    cached_column: Annotated[list[str] | None, typer.Option(help="Cached input tokens.")] = None,
    output_column: list[str] | None = None,
    requests_column: str | None = None,
    cost_column: Annotated[str | None, typer.Option(help="In US dollars.")] = None,
    delimiter: Annotated[
        str | None, typer.Option(help="By default comma, semicolon or tab, detected by the header.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="BILL=ROUTE for a model whose names differ; may be repeated.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, max=100, help="Percent.")] = 1.0,
    everything: Annotated[bool, typer.Option("--all", help="Also show the lines that agree.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Compare a provider's bill with the ledger by UTC day and model.

    Exit code 0: they agree. 3: they differ. 2: the bill cannot be read. 1: the ledger cannot.
    """
    from apps.platform_cli.usage.reconcile import Wanted, run_reconcile  # noqa: PLC0415 - as for serve

    if delimiter is not None and len(delimiter) != 1:
        raise typer.BadParameter("--delimiter: expected one character")
    names = dict(pair.partition("=")[::2] for pair in model or ())
    if any(not ours for ours in names.values()):
        raise typer.BadParameter("--model: expected BILL=ROUTE, such as gpt-4o-mini=my-deployment")
    columns = {
        "day": day_column, "model": model_column, "input": tuple(input_column or ()),
        "cached": tuple(cached_column or ()), "output": tuple(output_column or ()), "requests": requests_column,
        "cost": cost_column,
    }  # fmt: skip
    first, end = (None if moment is None else moment.date() for moment in (since, until))
    wanted = Wanted(bill, provider, form, columns, delimiter, names, first, end, Decimal(str(tolerance)))
    raise typer.Exit(run_reconcile(wanted, everything=everything, as_json=as_json))


@app.command()
def simulate(
    host: str = "127.0.0.1",
    port: _Port = 9200,
    ready_file: Annotated[Path | None, typer.Option(help="A file that is written when the simulator listens.")] = None,
) -> None:
    """Run the provider simulator by itself."""
    from apps.provider_simulator.main import run as run_simulator  # noqa: PLC0415 - as for serve

    run_simulator(host, port, ready_file)


def run() -> None:
    """Run the command line; expected failures become a message and an exit code, never a traceback."""
    _log_to_stderr("warning")
    sys.exit(run_app(app))


def _log_to_stderr(level: Level) -> None:
    """Log lines do not belong to a command's output. `serve` configures its own logs."""
    configure_logging(level, "console", LogSink(sys.stderr.fileno()))
