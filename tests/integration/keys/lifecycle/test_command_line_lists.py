"""What people read of keys on the command line: lists, expiries, owners, and who made a change."""

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.gateway.key_lifecycle import cli, cli_json, cli_ok
from tests.support.gateway.keys_api import sql

CHAT = ("--scope", "platform:chat")


def create(environment: dict[str, str], name: str, owner: str, *more: str) -> dict[str, Any]:
    made: dict[str, Any] = cli_json(environment, "create", "--name", name, "--owner", owner, *CHAT, *more)
    return made


def lines(environment: dict[str, str], *arguments: str) -> list[str]:
    return cli_ok(environment, *arguments).stdout.splitlines()


def test_list_shows_expiry_use_and_age_of_keys(own_environment: dict[str, str]) -> None:
    """One database for the whole story of several keys."""
    environment = own_environment
    url = environment["PLATFORM_DATABASE_URL"]
    empty = cli_ok(environment, "list")
    assert (empty.stdout, empty.stderr) == ("", "No keys match.\n")
    assert cli_ok(environment, "owners").stdout == ""

    forever = create(environment, "Büro", "billing")["api_key"]["key_id"]
    soon = create(environment, "soon", "billing", "--expires-in", "4d12h")["api_key"]["key_id"]
    later = create(environment, "later", "search", "--expires-in", "30 days")["api_key"]["key_id"]
    sql(url, f"UPDATE api_keys SET last_used_at = now() - interval '2 hours 5 minutes' WHERE key_id = '{soon}'")
    sql(url, f"UPDATE api_key_secrets SET created_at = now() - interval '90 days' WHERE key_id = '{later}'")
    cli_ok(environment, "rotate", forever, "--grace-period", "90m")

    header, *rows = lines(environment, "list")
    titles = re.split(r"\s{2,}", header)
    assert titles == [
        "KEY ID", "EXPIRES", "LAST USED", "SECRET AGE", "OLD SECRET", "STATUS", "CREATED", "OWNER", "NAME", "SCOPES",
    ]  # fmt: skip
    cells = {row[:12]: dict(zip(titles, re.split(r"\s{2,}", row), strict=True)) for row in rows}
    assert [cells[key]["EXPIRES"] for key in (forever, soon, later)] == ["never", "in 4 days", "in 29 days"]
    assert (cells[soon]["LAST USED"], cells[forever]["LAST USED"]) == ("2 hours ago", "never")
    assert (cells[later]["SECRET AGE"], cells[later]["OLD SECRET"]) == ("90 days", "-")
    assert cells[forever]["OLD SECRET"] in ("ends in 89 minutes", "ends in 90 minutes")
    assert "\x1b" not in "".join(rows), "no colour without a terminal"

    assert [row[:12] for row in lines(environment, "list", "--expiring-within", "14d")[1:]] == [soon]
    assert [row[:12] for row in lines(environment, "list", "--expiring-within", "5 weeks")[1:]] == [soon, later]
    assert cli_json(environment, "list", "--expiring-within", "1h") == []
    [shown] = cli_json(environment, "list", "--owner", "search", "--secrets")
    assert datetime.fromisoformat(shown["secret_created_at"]) < datetime.now(UTC) - timedelta(days=89)
    assert shown["old_secret_ends_at"] is None
    assert re.search(
        r"^old_secret_ends +\d{4}-.*\(in \d+ minutes\)$", "\n".join(lines(environment, "show", forever)), re.M
    )

    owners = cli_json(environment, "owners")
    assert [(owner["owner"], owner["active_keys"], owner["keys"]) for owner in owners] == [
        ("billing", 2, 2),
        ("search", 1, 1),
    ]
    header, first, second = lines(environment, "owners")
    assert (header.split()[0], first.split()[0], second.split()[0]) == ("OWNER", "billing", "search")

    note = cli_ok(environment, "create", "--name", "n", "--owner", "biling", *CHAT).stderr
    assert "first key of the owner 'biling', and 'billing' has keys already" in note
    assert "Note" not in cli_ok(environment, "create", "--name", "n", "--owner", "biling", *CHAT).stderr


def test_rotate_extends_the_expiry(own_environment: dict[str, str]) -> None:
    environment = own_environment
    url = environment["PLATFORM_DATABASE_URL"]
    key_id = create(environment, "n", "o", "--expires-in", "90d")["api_key"]["key_id"]
    sql(url, f"UPDATE api_key_secrets SET created_at = now() - interval '86 days' WHERE key_id = '{key_id}'")
    sql(url, f"UPDATE api_keys SET expires_at = now() + interval '4 days' WHERE key_id = '{key_id}'")

    def days_left(rotated: dict[str, Any]) -> float:
        left = datetime.fromisoformat(rotated["api_key"]["expires_at"]) - datetime.now(UTC)
        return left / timedelta(days=1)

    unchanged = cli_json(environment, "rotate", key_id)
    assert 3.9 < days_left(unchanged) < 4
    sql(url, f"UPDATE api_key_secrets SET created_at = now() - interval '86 days' WHERE key_id = '{key_id}'")
    extended = cli_json(environment, "rotate", key_id, "--extend")
    assert 89.9 < days_left(extended) < 90, "as long as the old secret had"
    assert extended["old_secret_ends_at"] is not None
    assert 13.9 < days_left(cli_json(environment, "rotate", key_id, "--extend", "14d")) < 14
    sql(url, f"UPDATE api_keys SET expires_at = now() - interval '1 day' WHERE key_id = '{key_id}'")
    assert "expired" in str(cli(environment, "rotate", key_id).exception)
    revived = cli_json(environment, "rotate", "--extend", "2w", key_id)
    assert revived["api_key"]["status"] == "active"


@pytest.mark.parametrize("narrow", [False, True])
def test_list_on_a_terminal_is_not_cut(own_environment: dict[str, str], narrow: bool) -> None:
    """A narrow terminal gets a block for each key."""
    record = create(own_environment, "a name that is long", "o")["api_key"]
    command = (
        "import pty, os, sys\n"
        "pid, fd = pty.fork()\n"
        "if pid == 0: os.execv(sys.executable, [sys.executable, '-m', 'apps.platform_cli', 'keys', 'list'])\n"
        "while True:\n"
        "    try: data = os.read(fd, 4096)\n"
        "    except OSError: break\n"
        "    if not data: break\n"
        "    sys.stdout.buffer.write(data)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**own_environment, "COLUMNS": "40" if narrow else "250"},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert record["key_id"] in done.stdout
    assert "a name that is long" in done.stdout
    assert bool(re.search(r"^NAME +a name that is long$", done.stdout.replace("\r", ""), re.MULTILINE)) is narrow


def test_change_names_its_actor(own_environment: dict[str, str]) -> None:
    environment = own_environment
    key_id = create(environment, "n", "o", "--actor", "Alice from CI")["api_key"]["key_id"]
    cli_ok({**environment, "PLATFORM_ACTOR": "deploy 42"}, "update", key_id, "--name", "m")
    cli_ok({**environment, "SUDO_USER": "bob"}, "rotate", key_id)
    refused = cli(environment, "revoke", key_id, "--reason", "r", "--actor", "a\nb")
    assert refused.exit_code == 2
    events = sql(environment["PLATFORM_DATABASE_URL"], "SELECT actor FROM audit_events ORDER BY id")
    names = [event["actor"].partition(" as ")[0] for event in events]
    assert names == ["cli:Alice from CI", "cli:deploy 42", "cli:bob"]
    assert all(re.fullmatch(r"cli:.+ as [^@ ]+@\S+", event["actor"]) for event in events), events
    assert json.dumps(events)
