"""The two keys that `dev` creates: an administrator's and one for chats."""

import asyncio
from collections.abc import Mapping

from platform_app.auth.keys.records import Actor, NewKey
from platform_app.auth.permissions import ALL, Scope
from platform_app.auth.tokens import parse_token
from platform_app.config import load_settings
from platform_app.errors import NotFound
from platform_app.resources.key_admin import KeyAdmin, open_key_admin
from platform_app.secret_store.env import EnvSecretStore

_ACTOR = Actor("cli:dev")
_OWNER = "dev"
_CHAT_SCOPES = [Scope.CHAT, Scope.EMBEDDINGS, Scope.MODELS_READ]


def ensure_dev_keys(env: Mapping[str, str], admin_key: str | None, chat_key: str | None) -> tuple[str, str]:
    """Return two valid keys as plain text: the given ones if the database still accepts them, otherwise new ones.

    `env` is the gateway's environment, including the database and the pepper.
    """
    settings = load_settings(
        database_url=env["PLATFORM_DATABASE_URL"], redis_url=env["PLATFORM_REDIS_URL"], env=env["PLATFORM_ENV"]
    )

    async def main() -> tuple[str, str]:
        async with open_key_admin(settings, EnvSecretStore(env)) as admin:
            return (
                await _ensure(admin, admin_key, NewKey("dev admin", _OWNER, [ALL], "test")),
                await _ensure(
                    admin,
                    chat_key,
                    NewKey("dev chat", _OWNER, _CHAT_SCOPES, "test"),
                ),
            )

    return asyncio.run(main())


async def _ensure(admin: KeyAdmin, key: str | None, wanted: NewKey) -> str:
    if key is not None and await _works(admin, key):
        return key
    _, token = await admin.lifecycle.create(wanted, await admin.peppers.current(), _ACTOR)
    return token.text


async def _works(admin: KeyAdmin, key: str) -> bool:
    token = parse_token(key)
    if token is None:
        return False
    stored = await admin.keys.lookup(token.key_id)
    peppers = await admin.peppers.current()
    digests = {peppers.digest(key, version) for version in peppers.by_version}
    try:
        status = (await admin.keys.get(token.key_id, only_owner=None)).status()
    except NotFound:
        return False
    return stored is not None and status == "active" and any(secret.digest in digests for secret in stored.secrets)
