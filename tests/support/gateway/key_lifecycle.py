"""The lifecycle of keys on a separate database, and its command line."""

import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from typer.testing import CliRunner, Result

from apps.platform_cli.main import app
from platform_app.auth.keys.records import Actor, ActorKey, KeyRecord, NewKey
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import Token
from platform_app.config import load_settings
from platform_app.resources.key_admin import KeyAdmin, open_key_admin
from platform_app.secret_store.env import EnvSecretStore
from tests.support.commands.command_line import run_command

ONE, TWO = "1a" * 32, "2b" * 32
BOTH = f"2:{TWO},1:{ONE}"
"""The first is for new secrets."""
OPERATOR = Actor("tests")


class Keys:
    """The lifecycle on that database, as the command line uses it."""

    def __init__(self, admin: KeyAdmin) -> None:
        self.admin = admin
        self.peppers: Peppers = parse_peppers("PEPPER", ONE)

    async def new(self, *scopes: str, **fields: Any) -> tuple[KeyRecord, Token]:
        owner = fields.pop("owner", "tests")
        new = NewKey("a test", owner, list(scopes) or ["platform:chat"], "test", **fields)
        return await self.admin.lifecycle.create(new, self.peppers, OPERATOR)

    async def new_admin(self, **fields: Any) -> Actor:
        """An administrator's key as an actor."""
        return await self.new_actor("platform:*", **fields)

    async def new_actor(self, *scopes: str, **fields: Any) -> Actor:
        """A new key as an actor."""
        record, _ = await self.new(*scopes, **fields)
        return await self.actor(record.key_id)

    async def actor(self, key_id: str) -> Actor:
        """A key with its newest secret as an actor."""
        stored = await self.admin.keys.lookup(key_id)
        assert stored is not None
        created = [secret.created_at for secret in stored.secrets if secret.created_at is not None]
        return Actor(f"key:{key_id}", ActorKey(key_id, max(created)))

    async def get(self, key_id: str) -> KeyRecord:
        return await self.admin.keys.get(key_id, only_owner=None)

    async def bootstrap(self) -> KeyRecord:
        new = NewKey("first", "operations", ["platform:*"], "test")
        return (await self.admin.lifecycle.bootstrap(new, self.peppers, Actor("cli:tests")))[0]

    async def revoke(self, actor: Actor, *, force: bool = False) -> KeyRecord:
        """An actor revokes its own key."""
        return await self.admin.lifecycle.revoke(id_of(actor), "a test", actor, force=force)

    async def admins(self) -> list[str]:
        """The ids of the active ones."""
        page = await self.admin.keys.list(only_owner=None)
        return sorted(key.key_id for key in page.keys if "platform:*" in key.scopes and key.status() == "active")


def id_of(actor: Actor) -> str:
    return actor.name.removeprefix("key:")


@asynccontextmanager
async def keys_at(url: str) -> AsyncIterator[Keys]:
    # Sixteen connections at once take longer than the usual 2 s on a busy machine.
    settings = load_settings(
        database_url=url,
        redis_url="redis://127.0.0.1:1/0",
        env="dev",
        database_pool_size=20,
        database_timeout_seconds=60,
    )
    async with open_key_admin(settings, EnvSecretStore({"PLATFORM_API_KEY_PEPPER": ONE})) as admin:
        yield Keys(admin)


def cli(environment: dict[str, str], *arguments: str) -> Result:
    """`flowbiz-platform keys …` in this process; expected failures come back as `exception`."""
    unset = {name: None for name in os.environ if name.startswith("PLATFORM_")}
    return CliRunner().invoke(app, ["keys", *arguments], env={**unset, **environment})


def cli_ok(environment: dict[str, str], *arguments: str) -> Result:
    result = cli(environment, *arguments)
    assert result.exception is None, result
    assert result.exit_code == 0
    return result


def cli_json(environment: dict[str, str], *arguments: str) -> Any:
    return json.loads(cli_ok(environment, *arguments, "--json").stdout)


def run_cli(environment: dict[str, str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The same in a separate process."""
    return run_command(environment, "keys", *arguments)
