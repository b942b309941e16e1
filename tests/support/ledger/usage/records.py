"""An API key whose usage records a test reads."""

import asyncio
from dataclasses import dataclass

import asyncpg

from tests.conftest import Platform
from tests.support.gateway.database import connected


@dataclass(frozen=True)
class BilledKey:
    """A separate key, so that its records are separate too."""

    key_id: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a JSON request with this key."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}


async def usage_of(platform: Platform, key: BilledKey, count: int = 1) -> list[asyncpg.Record]:
    """Return this key's usage records once there are `count` of them."""
    query = "SELECT * FROM usage_records WHERE key_id = $1 ORDER BY occurred_at"
    async with connected(platform.environment["PLATFORM_DATABASE_URL"]) as connection, asyncio.timeout(300):
        rows: list[asyncpg.Record] = []
        while len(rows := await connection.fetch(query, key.key_id)) < count:
            await asyncio.sleep(0.05)
    return list(rows)
