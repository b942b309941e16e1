"""Keys for people: a table of many, and everything about one."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import typer

from apps.platform_cli.terminal.durations import in_words, relative
from apps.platform_cli.terminal.output import OutputLostError
from apps.platform_cli.terminal.table import table_lines, terminal_columns
from platform_app.auth.keys.records import KeyRecord, KeySecrets

_HEADER = (
    "KEY ID", "EXPIRES", "LAST USED", "SECRET AGE", "OLD SECRET", "STATUS", "CREATED", "OWNER", "NAME", "SCOPES",
)  # fmt: skip


def print_keys(records: Sequence[KeyRecord], secrets: Mapping[str, KeySecrets], now: datetime) -> None:
    """Print a table with a header. Without keys only a note is printed, to stderr."""
    if not records:
        typer.echo("No keys match.", err=True)
        return
    rows = [_row(record, secrets.get(record.key_id), now) for record in records]
    sys.stdout.write("\n".join(table_lines(_HEADER, rows, terminal_columns())) + "\n")


def print_key(record: KeyRecord, secrets: KeySecrets | None, now: datetime) -> None:
    """Print every field in its own line."""
    fields: dict[str, Any] = {name: getattr(record, name) for name in record.__dataclass_fields__}
    fields["status"] = record.status(now)
    if secrets is not None:
        fields["secret_created_at"] = secrets.created_at
        fields["old_secret_ends"] = secrets.old_ends_at
    for name, value in fields.items():
        typer.echo(f"{name:<17} {_shown(value, now)}")


def print_secret(record: KeyRecord, key: str, as_json: bool, note: str = "", **more: object) -> None:
    """Print a new key to stdout, so that `KEY=$(…)` gets the key alone, and to stderr what a person must know."""
    try:
        typer.echo(json.dumps({"key": key, "api_key": record.plain(), **more}) if as_json else key)
    except OutputLostError as error:
        raise OutputLostError(error.number, _lost_secret(record.key_id, note)) from None
    if as_json:
        return
    lines = [f"Store this key now: it is not shown again. Its id is {record.key_id}."]
    typer.echo("\n".join([*lines, note] if note else lines), err=True)


def _lost_secret(key_id: str, note: str) -> str:
    """Return what to do after a secret was made and could not be shown."""
    ends = ", which ends the old secret at once" if note else ""
    return (
        f"The new secret of the key {key_id} is lost. {note or 'No client has it.'} "
        f"To get another{ends}: flowbiz-platform keys rotate {key_id}"
    )


def secret_fields(secrets: KeySecrets | None) -> dict[str, str | None]:
    """Return the secrets' times as data for JSON."""
    created, ends = (None, None) if secrets is None else (secrets.created_at, secrets.old_ends_at)
    return {
        "secret_created_at": None if created is None else created.isoformat(),
        "old_secret_ends_at": None if ends is None else ends.isoformat(),
    }


def _row(record: KeyRecord, secrets: KeySecrets | None, now: datetime) -> list[str]:
    old = None if secrets is None else secrets.old_ends_at
    return [
        record.key_id,
        "never" if record.expires_at is None else relative(record.expires_at, now),
        "never" if record.last_used_at is None else relative(record.last_used_at, now),
        "-" if secrets is None else in_words(now - secrets.created_at),
        "-" if old is None else f"ends {relative(old, now)}" if old > now else "ended",
        record.status(now),
        record.created_at.strftime("%Y-%m-%d"),
        record.owner,
        record.name,
        ",".join(record.scopes),
    ]


def _shown(value: object, now: datetime) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value.isoformat()} ({relative(value, now)})"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
