"""`flowbiz-platform migrate`: Alembic on the configured database."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from alembic.util import CommandError

from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.db.engine import make_engine
from platform_app.db.failures import database_failure

app = typer.Typer(no_args_is_help=True)


def _place() -> tuple[str, Path | None]:
    settings = load_settings()
    return settings.database_url.get_secret_value(), settings.database_ca_file


@app.command()
def up(revision: str = "head") -> None:
    """Migrate the schema up; each migration runs in its own transaction."""
    with _failures_explained():
        if revision == "head" and migrations.is_newer(current := asyncio.run(_current())):
            typer.echo(f"The schema is at {current}, which a newer version made. Nothing to do.")
            return
        url, ca_file = _place()
        migrations.upgrade(url, revision, ca_file=ca_file)
    typer.echo(f"The schema is at {revision}.")


@app.command()
def contract() -> None:
    """Remove what only earlier versions used; the previous version cannot run afterwards. A separate, later step."""
    typer.echo("This version has no contract migration. Nothing to do.")


@app.command()
def down(revision: str) -> None:
    """Migrate the schema down to a revision; `base` drops every table with its data."""
    with _failures_explained():
        url, ca_file = _place()
        migrations.downgrade(url, revision, ca_file=ca_file)
    typer.echo(f"The schema is at {revision}.")


@app.command()
def status() -> None:
    """Show the database's revision and the one that this version needs."""
    with _failures_explained():
        current, head = asyncio.run(_current()), migrations.head_revision()
    typer.echo(f"database: {current or 'empty'}\ncode:     {head}")
    if current != head:
        typer.echo("run: flowbiz-platform migrate up")
        raise typer.Exit(1)


@app.command()
def new(message: str) -> None:
    """Write an empty migration into the checkout."""
    migrations.new(message)


@contextmanager
def _failures_explained() -> Iterator[None]:
    """Turn failures of the database and of Alembic into a message and exit code 1."""
    try:
        yield
    except CommandError as error:  # an unknown revision
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
