"""Every subcommand of `keys` with its options."""

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from apps.platform_cli.keys.inputs import ExtendCommand, either, expiry, extension, grace_seconds, limits, status
from apps.platform_cli.keys.listing import print_key, print_keys, print_secret, secret_fields
from apps.platform_cli.keys.owners import note_similar_owner, print_owners
from apps.platform_cli.keys.session import all_keys, with_keys
from apps.platform_cli.terminal.actor import ActorName, cli_actor
from apps.platform_cli.terminal.durations import duration, relative
from apps.platform_cli.terminal.output import require_output
from platform_app.auth.keys.records import UNSET, KeyChanges, KeyFilter, KeyRecord, KeySecrets, NewKey
from platform_app.auth.permissions import ALL, GRANTS
from platform_app.config import load_settings
from platform_app.resources.key_admin import KeyAdmin

app = typer.Typer(no_args_is_help=True)
DEFAULT_GRACE_SECONDS = 3600
_NOT_CREATED = "No key was created, because it is shown only once."

_Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_Name = Annotated[str, typer.Option(help="What the key is for.")]
_Owner = Annotated[str, typer.Option(help="The team or person that is responsible for it.")]
_Limits = Annotated[list[str] | None, typer.Option("--limit", help="RULE=NUMBER, such as key-rpm=120.")]
_Models = Annotated[list[str] | None, typer.Option("--model", help="A model that the key may use; may be repeated.")]
_Days = Annotated[float | None, typer.Option(min=0.0, help="Expires this many days from now.")]
_Span = Annotated[
    timedelta | None, typer.Option(parser=duration, metavar="DURATION", help="Expires this long from now: 90d, 36h.")
]


@app.command()
def create(
    name: _Name,
    owner: _Owner,
    scope: Annotated[list[str], typer.Option(help=f"May be repeated: {', '.join(sorted(GRANTS))}.")],
    model: _Models = None,
    limit: _Limits = None,
    expires_in: _Span = None,
    expires_in_days: _Days = None,
    actor: ActorName = None,
    as_json: _Json = False,
) -> None:
    """Create a key and print it. The key is shown only once."""
    require_output(_NOT_CREATED)
    settings = load_settings()
    expires_at = expiry(expires_in_days, expires_in)
    new = NewKey(name, owner, scope, settings.key_environment, model or None, expires_at, limits(limit))
    who = cli_actor(actor)

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        record, token = await admin.lifecycle.create(new, await admin.peppers.current(), who)
        await note_similar_owner(admin, owner)
        return record, token.text

    print_secret(*with_keys(settings, work), as_json)


@app.command()
def bootstrap(
    name: _Name = "first administrator",
    owner: _Owner = "operations",
    actor: ActorName = None,
    as_json: _Json = False,
) -> None:
    """Create the first administrator's key. Refused as soon as an active one exists."""
    require_output(_NOT_CREATED)
    settings = load_settings()
    new = NewKey(name, owner, [ALL], settings.key_environment)
    who = cli_actor(actor)

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str]:
        record, token = await admin.lifecycle.bootstrap(new, await admin.peppers.current(), who)
        return record, token.text

    print_secret(*with_keys(settings, work), as_json)


@app.command("list")
def list_keys(
    owner: str | None = None,
    status_: Annotated[str | None, typer.Option("--status", help="active, expired or revoked.")] = None,
    scope: str | None = None,
    expiring_within: Annotated[
        timedelta | None,
        typer.Option(
            parser=duration,
            metavar="DURATION",
            help="Only active keys that expire this soon, such as 14d; soonest first.",
        ),
    ] = None,
    secrets: Annotated[
        bool, typer.Option("--secrets", help="With --json: add the times of each key's secrets.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """List keys, newest first."""
    wanted = KeyFilter(owner=owner, status=status(status_), scope=scope)
    now = datetime.now(UTC)

    async def work(admin: KeyAdmin) -> tuple[list[KeyRecord], dict[str, KeySecrets]]:
        records = await all_keys(admin, wanted)
        if expiring_within is not None:
            records = _expiring(records, now, expiring_within)
        ids = [record.key_id for record in records]
        return records, await admin.keys.secrets_of(ids) if secrets or not as_json else {}

    records, times = with_keys(load_settings(), work)
    if as_json:
        more = {record.key_id: secret_fields(times.get(record.key_id)) if secrets else {} for record in records}
        typer.echo(json.dumps([record.plain() | more[record.key_id] for record in records]))
    else:
        print_keys(records, times, now)


@app.command()
def owners(as_json: _Json = False) -> None:
    """List the owners of keys, with their keys and what is left of their budgets."""
    print_owners(load_settings(), as_json)


@app.command()
def show(key_id: str, as_json: _Json = False) -> None:
    """Show everything about a key except its secret."""

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, KeySecrets | None]:
        record = await admin.keys.get(key_id, only_owner=None)
        return record, (await admin.keys.secrets_of([key_id])).get(key_id)

    _print(*with_keys(load_settings(), work), as_json)


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
    expires_in: _Span = None,
    expires_in_days: _Days = None,
    never_expires: Annotated[bool, typer.Option()] = False,
    actor: ActorName = None,
    as_json: _Json = False,
) -> None:
    """Change the named fields and no others."""
    changes = KeyChanges(
        name=UNSET if name is None else name,
        owner=UNSET if owner is None else owner,
        scopes=scope or UNSET,
        allowed_models=either("--model", model or None, "--all-models", all_models),
        limits=either("--limit", limits(limit), "--no-limits", no_limits),
        expires_at=either("--expires-in-days", expiry(expires_in_days, expires_in), "--never-expires", never_expires),
    )
    who = cli_actor(actor)
    _print(with_keys(load_settings(), lambda admin: admin.lifecycle.update(key_id, changes, who)), None, as_json)


@app.command(cls=ExtendCommand)
def rotate(
    key_id: str,
    grace_period: Annotated[
        timedelta | None,
        typer.Option(parser=duration, metavar="DURATION", help="How long the old secret stays valid: 36h, 7d."),
    ] = None,
    grace_period_seconds: Annotated[
        int | None, typer.Option(min=0, help="The same in seconds; 3600 by default.")
    ] = None,
    extend: Annotated[
        str | None,
        typer.Option(
            metavar="[DURATION]",
            help="Also move the key's expiry to this long from now; without a duration, as long as the old secret had.",
        ),
    ] = None,
    actor: ActorName = None,
    as_json: _Json = False,
) -> None:
    """Give a key a new secret and print it. The old secret expires after the grace period; an even older one at
    once."""
    require_output("The key was not rotated, because its new secret is shown only once.")
    grace = grace_seconds(grace_period_seconds, grace_period, DEFAULT_GRACE_SECONDS)
    longer = extension(extend)
    who = cli_actor(actor)

    async def work(admin: KeyAdmin) -> tuple[KeyRecord, str, KeySecrets]:
        peppers = await admin.peppers.current()
        record, token = await admin.lifecycle.rotate(key_id, grace, peppers, who, longer)
        return record, token.text, (await admin.keys.secrets_of([key_id]))[key_id]

    record, key, secrets = with_keys(load_settings(), work)
    print_secret(record, key, as_json, _rotation_note(record, secrets), **secret_fields(secrets))


@app.command()
def revoke(
    key_id: str,
    reason: Annotated[str, typer.Option(help="The reason, recorded in the audit.")],
    force: Annotated[bool, typer.Option(help="Revoke even the last administrator's key.")] = False,
    actor: ActorName = None,
    as_json: _Json = False,
) -> None:
    """Revoke a key permanently."""
    who = cli_actor(actor)
    revoked = with_keys(load_settings(), lambda admin: admin.lifecycle.revoke(key_id, reason, who, force=force))
    _print(revoked, None, as_json)


@app.command()
def peppers() -> None:
    """Count the secrets under each pepper version. A version with no secrets can be removed."""

    async def work(admin: KeyAdmin) -> tuple[dict[int, int], list[int]]:
        return await admin.keys.secrets_by_pepper(), list((await admin.peppers.current()).by_version)

    counts, live = with_keys(load_settings(), work)
    for version in sorted({*counts, *live}):
        note = "current" if version == live[0] else ("live" if version in live else "NOT CONFIGURED: these keys fail")
        typer.echo(f"version {version}: {counts.get(version, 0)} secrets, {note}")


def _expiring(records: list[KeyRecord], now: datetime, within: timedelta) -> list[KeyRecord]:
    soon = [
        (record.expires_at, record)
        for record in records
        if record.expires_at is not None and record.status(now) == "active" and record.expires_at <= now + within
    ]
    return [record for _, record in sorted(soon, key=lambda each: each[0])]


def _rotation_note(record: KeyRecord, secrets: KeySecrets) -> str:
    now = datetime.now(UTC)
    ends = secrets.old_ends_at
    note = (
        "The old secret is no longer valid."
        if ends is None
        else f"The old secret ends {relative(ends, now)}, at {ends:%Y-%m-%d %H:%M:%S} UTC."
    )
    if record.expires_at is None:
        return note
    return f"{note} The key expires {relative(record.expires_at, now)}, at {record.expires_at:%Y-%m-%d %H:%M:%S} UTC."


def _print(record: KeyRecord, secrets: KeySecrets | None, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(record.plain()))
    else:
        print_key(record, secrets, datetime.now(UTC))
