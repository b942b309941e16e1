"""Manage keys without a gateway, as the command line does."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from platform_app.auth.authenticator import SecretPeppers
from platform_app.auth.keys.events import RedisKeyEvents
from platform_app.auth.keys.rules import KeyRules
from platform_app.auth.keys.service import KeyLifecycle
from platform_app.auth.keys.store import KeyStore
from platform_app.config import PlatformConfig, Settings
from platform_app.db.connections import close_engines
from platform_app.db.engine import make_engine
from platform_app.redis.clients import make_redis
from platform_app.secret_store.base import SecretStore
from platform_app.secret_store.configured import make_secret_store


@dataclass(frozen=True, slots=True)
class KeyAdmin:
    """What the command line needs to manage keys."""

    keys: KeyStore
    lifecycle: KeyLifecycle
    peppers: SecretPeppers


@asynccontextmanager
async def open_key_admin(
    settings: Settings, secrets: SecretStore | None = None, config: PlatformConfig | None = None
) -> AsyncIterator[KeyAdmin]:
    """The keys alone, with the settings' secret store unless another is given. With `config`, keys are held to its
    models and limit rules."""
    async with AsyncExitStack() as stack:
        secrets = secrets or make_secret_store(settings)
        stack.push_async_callback(secrets.aclose)
        engine = make_engine(settings)
        stack.push_async_callback(close_engines, engine)
        redis = make_redis(settings)
        stack.push_async_callback(redis.aclose)
        rules = key_rules_of(config) if config else KeyRules()
        peppers = SecretPeppers(secrets, settings.api_key_pepper_secret_name)
        yield KeyAdmin(KeyStore(engine), KeyLifecycle(engine, rules, RedisKeyEvents(redis), peppers), peppers)


def key_rules_of(config: PlatformConfig) -> KeyRules:
    """Return what keys may refer to: limit rules, models and owners of the config file."""
    return KeyRules(config.rate_limits.rules, config.model_names, config.owners)
