"""`flowbiz-platform keys`: create and change API keys with the same code as the HTTP routes."""

import asyncio
import getpass
import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, TypeVar

import typer
from sqlalchemy.exc import ProgrammingError

from platform_app.auth.keys.records import UNSET, Actor, KeyChanges, KeyFilter, KeyRecord, KeyStatus, NewKey, Unset
from platform_app.auth.keys.store import DATABASE_ERRORS
from platform_app.auth.permissions import ALL, GRANTS
from platform_app.config import Settings, load_config, load_settings
from platform_app.db.failures import failure_kind
from platform_app.errors import AuthUnavailable, ConfigurationError, SecretError, ValidationFailed
from platform_app.resources import KeyAdmin, open_key_admin

app = typer.Typer(no_args_is_help=True)
T = TypeVar("T")
_NUMBER = re.compile(r"\d{1,10}(\.\d{1,6})?", re.ASCII)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_Name = Annotated[str, typer.Option(help="What the key is for.")]
_Owner = Annotated[str, typer.Option(help="The team or person that is responsible for it.")]
_Limits = Annotated[list[str] | None, typer.Option("--limit", help="RULE=NUMBER, such as key-rpm=120.")]
_Models = Annotated[list[str] | None, typer.Option("--model", help="A model that the key may use; may be repeated.")]
_Days = Annotated[float | None, typer.Option(min=0.0, help="Expires this many days from now.")]


@app.command()
def create(
    name: _Name,
    owner: _Owner,
    scope: Annotated[list[str], typer.Option(help=f"May be repeated: {', '.join(sorted(GRANTS))}.")],
    model: _Models = None,
    limit: _Limits = None,
    expires_in_days: _Days = None,
    as_json: _Json = False,
) -> None:
    """Create a key and print it. The key is shown only once."""
    settings = load_settings()
    expires_at = _in_days(expires_in_days)
    new = NewKey(name, owner, scope, settings.key_environment, model or None, expires_at, _limits(limit))

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        record, token = await admin.lifecycle.create(new, await admin.peppers.current(), _actor())
        return record, token.text

    _print_secret(*_run(settings, work), as_json)


@app.command()
def bootstrap(name: _Name = "first administrator", owner: _Owner = "operations", as_json: _Json = False) -> None:
    """Create the first administrator's key. Refused as soon as an active one exists."""
    settings = load_settings()
    new = NewKey(name, owner, [ALL], settings.key_environment)

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        record, token = await admin.lifecycle.bootstrap(new, await admin.peppers.current(), _actor())
        return record, token.text

    _print_secret(*_run(settings, work), as_json)


@app.command("list")
def list_keys(
    owner: str | None = None,
    status: Annotated[str | None, typer.Option(help="active, expired or revoked.")] = None,
    scope: str | None = None,
    as_json: _Json = False,
) -> None:
    """List keys, newest first."""
    wanted = KeyFilter(owner=owner, status=_status(status), scope=scope)

    async def work(admin: KeyAdmin) -> list[KeyRecord]:
        records: list[KeyRecord] = []
        cursor = None
        while True:
            page = await admin.keys.list(wanted, only_owner=None, limit=200, cursor=cursor)
            records += page.keys
            cursor = page.next_cursor
            if cursor is None:
                return records

    records = _run(load_settings(), work)
    if as_json:
        typer.echo(json.dumps([record.plain() for record in records]))
        return
    for record in records:
        created = record.created_at.strftime("%Y-%m-%d")
        scopes = ",".join(record.scopes)
        typer.echo(f"{record.key_id}  {record.status():<8} {created}  {record.owner:<20} {record.name:<24} {scopes}")


@app.command()
def show(key_id: str, as_json: _Json = False) -> None:
    """Show everything about a key except its secret."""
    _print(_run(load_settings(), lambda admin: admin.keys.get(key_id, only_owner=None)), as_json)


@app.command()
def update(
    key_id: str,
    name: str | None = None,
    owner: str | None = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="The key's new scopes, which replace all others; may be repeated.")
    ] = None,
    model: _Models = None,
    all_models: Annotated[bool, typer.Option(help="Allow every model.")] = False,
    limit: _Limits = None,
    no_limits: Annotated[bool, typer.Option(help="Drop the key's own limits.")] = False,
    expires_in_days: _Days = None,
    never_expires: Annotated[bool, typer.Option()] = False,
    as_json: _Json = False,
) -> None:
    """Change the named fields and no others."""
    changes = KeyChanges(
        name=UNSET if name is None else name,
        owner=UNSET if owner is None else owner,
        scopes=scope or UNSET,
        allowed_models=_either("--model", model or None, "--all-models", all_models),
        limits=_either("--limit", _limits(limit), "--no-limits", no_limits),
        expires_at=_either("--expires-in-days", _in_days(expires_in_days), "--never-expires", never_expires),
    )
    _print(_run(load_settings(), lambda admin: admin.lifecycle.update(key_id, changes, _actor())), as_json)


@app.command()
def rotate(
    key_id: str,
    grace_period_seconds: Annotated[int, typer.Option(min=0, help="How long the old secret stays valid.")] = 3600,
    as_json: _Json = False,
) -> None:
    """Give a key a new secret and print it. The old secret expires after the grace period; an even older one at
    once."""

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        peppers = await admin.peppers.current()
        record, token = await admin.lifecycle.rotate(key_id, grace_period_seconds, peppers, _actor())
        return record, token.text

    _print_secret(*_run(load_settings(), work), as_json)


@app.command()
def revoke(
    key_id: str,
    reason: Annotated[str, typer.Option(help="The reason, recorded in the audit.")],
    force: Annotated[bool, typer.Option(help="Revoke even the last administrator's key.")] = False,
    as_json: _Json = False,
) -> None:
    """Revoke a key permanently."""
    _print(_run(load_settings(), lambda admin: admin.lifecycle.revoke(key_id, reason, _actor(), force=force)), as_json)


@app.command()
def peppers() -> None:
    """Count the secrets under each pepper version. A version with no secrets can be removed."""

    async def work(admin: KeyAdmin) -> tuple[dict[int, int], list[int]]:
        return await admin.keys.secrets_by_pepper(), list((await admin.peppers.current()).by_version)

    counts, live = _run(load_settings(), work)
    for version in sorted({*counts, *live}):
        note = "current" if version == live[0] else ("live" if version in live else "NOT CONFIGURED: these keys fail")
        typer.echo(f"version {version}: {counts.get(version, 0)} secrets, {note}")


def _run(settings: Settings, work: Callable[[KeyAdmin], Awaitable[T]]) -> T:
    config = load_config(settings)

    async def main() -> T:
        async with open_key_admin(settings, config=config) as admin:
            return await work(admin)

    try:
        return asyncio.run(main())
    except SecretError as error:
        raise ConfigurationError([str(error)]) from None
    except ProgrammingError:
        raise AuthUnavailable("The database lacks this version's tables. Run: flowbiz-platform migrate up") from None
    except DATABASE_ERRORS as error:
        raise AuthUnavailable(
            f"The database does not respond ({failure_kind(error)}). Check PLATFORM_DATABASE_URL."
        ) from None


def _actor() -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = "unknown"
    return Actor(f"cli:{user}")


def _limits(pairs: list[str] | None) -> dict[str, float] | None:
    if not pairs:
        return None
    limits: dict[str, float] = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if not _NUMBER.fullmatch(number):
            raise _invalid(f"--limit {pair}: expected RULE=NUMBER, such as key-rpm=120 or key-daily-usd=2.50")
        limits[name] = float(number) if "." in number else int(number)
    return limits


def _in_days(days: float | None) -> datetime | None:
    try:
        return None if days is None else datetime.now(UTC) + timedelta(days=days)
    except OverflowError:
        raise _invalid("--expires-in-days: too large for a date; use --never-expires") from None


def _either(flag: str, value: T | None, drop_flag: str, drop: bool) -> T | Unset | None:
    if drop and value is not None:
        raise _invalid(f"{flag} and {drop_flag} exclude each other")
    if drop:
        return None
    return UNSET if value is None else value


def _status(text: str | None) -> KeyStatus | None:
    match text:
        case None | "active" | "expired" | "revoked":
            return text
        case _:
            raise _invalid("--status: expected active, expired or revoked")


def _invalid(problem: str) -> ValidationFailed:
    return ValidationFailed("The command is not valid.", details=[problem])


def _print_secret(record: KeyRecord, key: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"key": key, "api_key": record.plain()}))
    else:
        typer.echo(f"{key}\n\nThis is the only time that the key is shown. Its id is {record.key_id}.")


def _print(record: KeyRecord, as_json: bool) -> None:
    plain = record.plain()
    if as_json:
        typer.echo(json.dumps(plain))
        return
    for name, value in plain.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{name:<15} {'-' if shown is None else shown}")
