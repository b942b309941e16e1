"""`flowbiz-platform migrate`: Alembic on the configured database."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from alembic.util import CommandError

from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.db.engine import make_engine
from platform_app.db.failures import database_failure
from platform_app.db.schema_changes import Loss

app = typer.Typer(no_args_is_help=True)


def _place() -> tuple[str, Path | None]:
    settings = load_settings()
    return settings.database_url.get_secret_value(), settings.database_ca_file


@app.command()
def up(revision: str = "head") -> None:
    """Migrate the schema up; each migration runs in its own transaction. Then grant the runtime role its rights."""
    with _failures_explained():
        order = migrations.revisions_in_order()
        _check_revision(revision, ["head", *order])
        before = asyncio.run(_current())
        if revision == "head" and migrations.is_newer(before):
            typer.echo(f"The schema is at {before}, which a newer version made. Nothing to do.")
            return
        _refuse_lower(before, revision, order)
        url, ca_file = _place()
        migrations.upgrade(url, revision, ca_file=ca_file)
        reached = asyncio.run(_current())
    # Both are done before the first line, which may be lost.
    try:
        granted, problem = migrations.grant(url, ca_file=ca_file), None
    except DATABASE_ERRORS as error:
        granted, problem = None, f"The runtime role was not granted its rights: {database_failure(error)}."
    typer.echo("\n".join(filter(None, [f"The schema is at {reached}.", granted, problem])))
    if problem is not None and reached != before:
        # A second run has nothing to migrate and passes: deploy/roles.sql may have granted what this role cannot.
        typer.echo("The schema is migrated. Run deploy/roles.sql as a superuser before this version serves.", err=True)
        raise typer.Exit(1)


@app.command()
def contract() -> None:
    """Remove what only earlier versions used; the previous version cannot run afterwards. A separate, later step."""
    typer.echo("This version has no contract migration. Nothing to do.")


@app.command()
def down(
    revision: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also in production.")] = False,
) -> None:
    """Migrate the schema down to a revision; `base` drops every table with its data. Lists first what goes."""
    with _failures_explained():
        _check_revision(revision, ["base", *migrations.revisions_in_order()])
        url, ca_file = _place()
        lost = migrations.losses(url, revision, ca_file=ca_file)
    _confirm(revision, lost, yes=yes, force=force)
    with _failures_explained():
        migrations.downgrade(url, revision, ca_file=ca_file)
    typer.echo(f"The schema is at {revision}.")


def _refuse_lower(current: str | None, revision: str, order: list[str]) -> None:
    """End the command if the schema is above the revision: `up` would change nothing."""
    if current is None or revision == "head" or current == revision:
        return
    if current not in order or order.index(current) > order.index(revision):
        typer.echo(f"The schema is at {current}, above {revision}. To go down: migrate down {revision}", err=True)
        raise typer.Exit(1)


def _check_revision(revision: str, possible: list[str]) -> None:
    if revision not in possible:
        raise migrations.UnknownRevisionError(revision, possible)


def _confirm(revision: str, lost: list[Loss], *, yes: bool, force: bool) -> None:
    """List what goes, and end the command unless the operator wants it. Nothing is asked if no row goes."""
    for loss in lost:
        typer.echo(f"goes: {loss.name} ({loss.rows} {'row' if loss.rows == 1 else 'rows'})", err=True)
    if load_settings().env == "production" and not force:
        typer.echo("Refused, because PLATFORM_ENV is production. Back up the database, then add --force.", err=True)
        raise typer.Exit(1)
    if yes or not any(loss.rows for loss in lost):
        return
    if not sys.stdin.isatty():
        typer.echo("Rows would be lost, and no terminal can be asked. Back up the database, then add --yes.", err=True)
        raise typer.Exit(1)
    typer.confirm(f"These rows are lost. Go down to {revision}?", abort=True, err=True)


@app.command()
def status() -> None:
    """Show the database's revision and the one that this version needs."""
    with _failures_explained():
        current, head = asyncio.run(_current()), migrations.head_revision()
    typer.echo(f"database: {current or 'empty'}\ncode:     {head}")
    if migrations.is_newer(current):
        typer.echo("The database is newer than this version, which serves on it. Nothing to do.")
    elif current != head:
        typer.echo("run: flowbiz-platform migrate up")
        raise typer.Exit(1)


@app.command()
def new(message: str) -> None:
    """Write an empty migration into the checkout."""
    typer.echo(f"written: {migrations.new(message)}")


@contextmanager
def _failures_explained() -> Iterator[None]:
    """Turn failures of the database and of Alembic into a message and exit code 1."""
    try:
        yield
    except (CommandError, migrations.UnknownRevisionError) as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except DATABASE_ERRORS as error:
        typer.echo(f"The database refused the command or does not respond: {database_failure(error)}.", err=True)
        raise typer.Exit(1) from None


async def _current() -> str | None:
    engine = make_engine(load_settings())
    try:
        return await migrations.current_revision(engine)
    finally:
        await engine.dispose()
