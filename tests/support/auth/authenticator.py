"""An authenticator with a fake key store, fake peppers and fake clocks."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.exc import OperationalError

from platform_app.auth.authenticator import Authenticator, AuthPolicy
from platform_app.auth.cache import KeyCache
from platform_app.auth.keys.records import KeyRecord, StoredKey, StoredSecret
from platform_app.auth.pepper import Peppers, parse_peppers
from platform_app.auth.tokens import Token, generate_token
from platform_app.errors import SecretStoreUnavailable
from tests.support.auth.many_keys import LooksUpOneByOne
from tests.support.fakes.core import FakeClock, key_record

TTL, STALE = 5.0, 300.0
ONE, TWO = "1a" * 32, "2b" * 32
DOWN = OperationalError("SELECT", {}, Exception("down"))


class CountingPeppers(Peppers):
    """Counts the digests that an authentication computes."""

    digests = 0

    def digest(self, token: str, version: int | None = None) -> bytes | None:
        CountingPeppers.digests += 1
        return super().digest(token, version)


class FakePeppers:
    """Peppers that a test can change or make unavailable (`error`)."""

    def __init__(self, text: str = ONE) -> None:
        self.peppers = parse_peppers("PEPPER", text)
        self.error: SecretStoreUnavailable | None = None

    async def current(self) -> Peppers:
        if self.error is not None:
            raise self.error
        return self.peppers


class FakeKeys(LooksUpOneByOne):
    """A key store in a dictionary that can be down (`error`) or slow (`gate`), and counts lookups."""

    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.asked = 0
        self.rehashed: list[tuple[bytes, bytes, int]] = []
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def rehash(self, digest: bytes, new_digest: bytes, pepper_version: int) -> None:
        self.rehashed.append((digest, new_digest, pepper_version))

    async def lookup(self, key_id: str) -> StoredKey | None:
        self.asked += 1
        answer = self.stored.get(key_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return answer


class World:
    """An authenticator with its fakes and clocks."""

    def __init__(self) -> None:
        self.keys = FakeKeys()
        self.peppers = FakePeppers()
        self.cache = KeyCache(size=100)
        self.clock = FakeClock()
        self.today = datetime(2026, 7, 1, tzinfo=UTC)
        self.auth = Authenticator(
            self.keys, self.peppers, self.cache, AuthPolicy(TTL, STALE), self.clock, lambda: self.today
        )

    def add(
        self,
        change: Callable[[KeyRecord], KeyRecord] = lambda record: record,
        *,
        version: int = 1,
        not_after: datetime | None = None,
    ) -> Token:
        token = generate_token("test")
        digest = self.peppers.peppers.digest(token.text, version)
        assert digest is not None
        record = change(key_record(token.key_id))
        self.keys.stored[token.key_id] = StoredKey(record, (StoredSecret(digest, version, not_after),))
        return token

    def revoke(self, token: Token) -> None:
        stored = self.keys.stored[token.key_id]
        self.keys.stored[token.key_id] = replace(stored, record=replace(stored.record, revoked_at=self.today))
