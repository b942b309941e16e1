"""A store in memory, with the same rules as record.lua, that can be down or slow."""

import asyncio
from dataclasses import dataclass

from platform_app.errors import IdempotencyUnavailable
from platform_app.idempotency.store import NOT_KEPT, Claim, Finish, Found, State


@dataclass
class Record:
    """What is known of one key."""

    fingerprint: str
    owner: str | None
    response: bytes = b""
    seconds: float = 0.0
    left: bool = False


class MemoryStore:
    """See IdempotencyStore. Nothing ends by itself; `forget` is what time does."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self.steps: list[str] = []
        self.down = False
        self.full = False
        self.slow: asyncio.Event | None = None

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        await self._step("begin")
        record = self.records.get(claim.record)
        if record is None:
            self.records[claim.record] = Record(claim.fingerprint, claim.owner, seconds=lease_seconds)
            return Found(State.STARTED)
        if record.fingerprint != claim.fingerprint:
            return Found(State.OTHER_BODY)
        if record.owner == claim.owner:
            return Found(State.STARTED)
        if record.owner is not None:
            return Found(State.CLIENT_DISCONNECTED if record.left else State.IN_FLIGHT)
        return Found(State.DONE, record.response)

    async def renew(self, claim: Claim, lease_seconds: float, *, client_disconnected: bool = False) -> bool:
        await self._step("leave" if client_disconnected else "renew")
        found = self.records.get(claim.record)
        left = client_disconnected or (found is not None and found.left)
        return self._held(claim, Record(claim.fingerprint, claim.owner, seconds=lease_seconds, left=left))

    async def finish(self, claim: Claim, response: bytes, keep_seconds: int) -> Finish:
        await self._step("finish")
        no_room = self.full and response != NOT_KEPT
        if not self._held(claim, Record(claim.fingerprint, None, NOT_KEPT if no_room else response, keep_seconds)):
            return Finish.LOST
        return Finish.NO_ROOM if no_room else Finish.KEPT

    async def release(self, claim: Claim) -> bool:
        await self._step("release")
        held = self._held(claim, Record("", ""))
        if held:
            del self.records[claim.record]
        return held

    def forget(self) -> None:
        self.records.clear()

    async def _step(self, name: str) -> None:
        self.steps.append(name)
        if self.slow is not None:
            await self.slow.wait()
        if self.down:
            raise IdempotencyUnavailable("down", retry_after=1) from ConnectionRefusedError()

    def _held(self, claim: Claim, record: Record) -> bool:
        found = self.records.get(claim.record)
        if found is not None and found.owner != claim.owner:
            return False
        self.records[claim.record] = record
        return True
