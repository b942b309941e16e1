"""A PostgreSQL and a Valkey of one program, which ends or freezes them as it needs."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from apps.platform_cli.embedded.postgres import EmbeddedPostgres
from apps.platform_cli.embedded.valkey import EmbeddedValkey
from platform_app.db import migrations

_DATABASE = "gateway"


@dataclass(frozen=True, slots=True)
class Stores:
    """The running servers, with a database migrated to head."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @property
    def database_url(self) -> str:
        """The URL of the database."""
        return self.postgres.url(_DATABASE)

    def environment(self, config_file: Path, default_model: str) -> dict[str, str]:
        """Return the variables of a gateway on these servers, with a new pepper."""
        return {
            "PLATFORM_ENV": "dev",
            "PLATFORM_DATABASE_URL": self.database_url,
            "PLATFORM_REDIS_URL": self.valkey.url,
            "PLATFORM_CONFIG_FILE": str(config_file),
            "PLATFORM_DEFAULT_MODEL": default_model,
            "PLATFORM_API_KEY_PEPPER": f"1:{secrets.token_hex(32)}",
            "PLATFORM_SHUTDOWN_DRAIN_SECONDS": "0",
            "PLATFORM_SHUTDOWN_GRACE_SECONDS": "2",
        }


@contextmanager
def running_stores(directory: Path) -> Iterator[Stores]:
    """Start both in a directory that any user may traverse, because PostgreSQL may run as another one."""
    stores = Stores(
        EmbeddedPostgres(directory / "postgres" / "data", settings={"fsync": "off"}),
        EmbeddedValkey(directory / "valkey"),
    )
    try:
        stores.postgres.start()
        stores.postgres.create_database(_DATABASE)
        migrations.upgrade(stores.database_url)
        stores.valkey.start()
        yield stores
    finally:
        stores.valkey.stop()
        stores.postgres.stop()
