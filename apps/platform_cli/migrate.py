"""`flowbiz-platform migrate`: Alembic on the configured database."""

import asyncio

import typer

from platform_app.config import load_settings
from platform_app.db import migrations
from platform_app.db.engine import make_engine

app = typer.Typer(no_args_is_help=True)


def _url() -> str:
    return load_settings().database_url.get_secret_value()


@app.command()
def up(revision: str = "head") -> None:
    """Bring the schema up; each migration is a transaction of its own."""
    migrations.upgrade(_url(), revision)
    typer.echo(f"The schema is at {revision}.")


@app.command()
def down(revision: str) -> None:
    """Take the schema down to a revision; `base` removes everything, data included."""
    migrations.downgrade(_url(), revision)
    typer.echo(f"The schema is at {revision}.")


@app.command()
def status() -> None:
    """Say where the schema is and where this version of the code needs it."""
    current, head = asyncio.run(_current()), migrations.head_revision()
    typer.echo(f"database: {current or 'empty'}\ncode:     {head}")
    if current != head:
        typer.echo("run: flowbiz-platform migrate up")
        raise typer.Exit(1)


@app.command()
def new(message: str) -> None:
    """Write an empty migration into the checkout."""
    migrations.new(message)


async def _current() -> str | None:
    engine = make_engine(load_settings())
    try:
        return await migrations.current_revision(engine)
    finally:
        await engine.dispose()
