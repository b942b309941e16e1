"""`flowbiz-platform keys`: the same code as the HTTP routes, for people at a terminal."""

import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer

from platform_app.auth.keys import DATABASE_ERRORS, Actor, KeyRecord, NewKey
from platform_app.auth.permissions import GRANTS
from platform_app.config import Settings, load_settings
from platform_app.errors import AuthUnavailable, ConfigurationError, SecretError
from platform_app.resources import KeyAdmin, open_key_admin

app = typer.Typer(no_args_is_help=True)
T = TypeVar("T")

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What the key is for.")],
    owner: Annotated[str, typer.Option(help="The team or person who answers for it.")],
    scope: Annotated[list[str], typer.Option(help=f"May be repeated: {', '.join(sorted(GRANTS))}.")],
    model: Annotated[
        list[str] | None, typer.Option(help="A model that it may use; may be repeated; all without.")
    ] = None,
    expires_in_days: Annotated[float | None, typer.Option(min=0.0)] = None,
    as_json: _Json = False,
) -> None:
    """Create a key and print it. It is shown this once and cannot be shown again."""
    settings = load_settings()
    expires_at = datetime.now(UTC) + timedelta(days=expires_in_days) if expires_in_days is not None else None
    new = NewKey(name, owner, scope, settings.key_environment, model or None, expires_at)

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        record, token = await admin.keys.create(new, await admin.peppers.current(), _actor())
        return record, token.text

    record, key = _run(settings, work)
    if as_json:
        typer.echo(json.dumps({**_plain(record), "key": key}))
    else:
        typer.echo(f"{key}\n\nThis is the only time that the key is shown. Its id is {record.key_id}.")


@app.command("list")
def list_keys(owner: str | None = None, as_json: _Json = False) -> None:
    """List keys, newest first."""
    records = _run(load_settings(), lambda admin: admin.keys.list(owner=owner))
    if as_json:
        typer.echo(json.dumps([_plain(record) for record in records]))
        return
    for record in records:
        created = record.created_at.strftime("%Y-%m-%d")
        scopes = ",".join(record.scopes)
        typer.echo(f"{record.key_id}  {record.status():<8} {created}  {record.owner:<20} {record.name:<24} {scopes}")


@app.command()
def show(key_id: str, as_json: _Json = False) -> None:
    """Show everything about a key but its secret."""
    _print(_run(load_settings(), lambda admin: admin.keys.get(key_id)), as_json)


@app.command()
def revoke(
    key_id: str, reason: Annotated[str, typer.Option(help="Why; kept in the audit.")], as_json: _Json = False
) -> None:
    """End a key for good."""
    _print(_run(load_settings(), lambda admin: admin.keys.revoke(key_id, reason, _actor())), as_json)


def _run(settings: Settings, work: Callable[[KeyAdmin], Awaitable[T]]) -> T:
    async def main() -> T:
        async with open_key_admin(settings) as admin:
            return await work(admin)

    try:
        return asyncio.run(main())
    except SecretError as error:
        raise ConfigurationError([str(error)]) from None
    except DATABASE_ERRORS as error:
        raise AuthUnavailable(
            f"The database does not answer ({type(error).__name__}). Check PLATFORM_DATABASE_URL."
        ) from None


def _actor() -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return Actor(f"cli:{user}")


def _print(record: KeyRecord, as_json: bool) -> None:
    plain = _plain(record)
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for name, value in plain.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:<15} {'-' if shown is None else shown}")


def _plain(record: KeyRecord) -> dict[str, object]:
    fields = asdict(record) | {"status": record.status()}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
