"""Where Idempotency-Keys are kept: the interface and its answers."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

NOT_KEPT = b""
"""Stored in place of a response that is too large, or for which there is no room: that the work was done is remembered
all the same."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One request that wants to work under a key."""

    record: str
    """The record's name, from `record_name`."""
    fingerprint: str
    """Of the request's body; the same key with another one is a mistake."""
    owner: str
    """Of this request alone."""


class State(StrEnum):
    """What is known of a key."""

    BEGUN = "begun"
    """Nothing was; now the claim holds it."""
    IN_FLIGHT = "in_flight"
    """Another request holds it."""
    LEFT = "left"
    """Another request holds it, whose client has left; its work goes on."""
    OTHER_BODY = "other_body"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Found:
    """What `begin` came to; `answer` where it is DONE, NOT_KEPT among them."""

    state: State
    answer: bytes = b""


class Finish(StrEnum):
    """What became of a response that was to be kept."""

    KEPT = "held"
    NO_ROOM = "no_room"
    """The store's memory is almost full. That the work was done is remembered."""
    LOST = "lost"
    """Another request holds the key or has finished, since the lease had ended; nothing was stored."""


class IdempotencyStore(Protocol):
    """Records of keys, shared by all processes. Every method raises IdempotencyUnavailable where it cannot be asked;
    whether the change was made is unknown then."""

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        """Look the key up and, where nothing is known of it, hold it for the lease: one atomic step. A claim that holds
        it already begins again."""
        ...

    async def renew(self, claim: Claim, lease_seconds: float, *, client_left: bool = False) -> bool:
        """Hold on, and say that the client has left where it has. False: another request holds it or has finished,
        since the lease had ended."""
        ...

    async def finish(self, claim: Claim, answer: bytes, keep_seconds: int) -> Finish:
        """Keep the response for the next request with this key."""
        ...

    async def release(self, claim: Claim) -> bool:
        """Forget the key, so that the next request with it works for real. False as for `renew`."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose responses are kept: what quotas are counted by."""

    key_id: str
    owner: str


class KeepingQuota(Protocol):
    """How much may be stored for an API key and for an owner. Counted from the moment of storing until it ends."""

    async def take_response(self, holder: Holder, size: int) -> bool:
        """Count a response of so many bytes. False where there is no room for it; then nothing is counted."""
        ...

    async def take_marker(self, holder: Holder) -> None:
        """Count a record that says only that the work was done."""
        ...

    def require_marker(self, holder: Holder) -> None:
        """Raise RateLimited while there is no room even for such records. Asks nobody, so it costs nothing."""
        ...


class NoQuota:
    """A quota without an end."""

    async def take_response(self, holder: Holder, size: int) -> bool:
        """See KeepingQuota.take_response."""
        return True

    async def take_marker(self, holder: Holder) -> None:
        """See KeepingQuota.take_marker."""

    def require_marker(self, holder: Holder) -> None:
        """See KeepingQuota.require_marker."""


def record_name(holder: Holder, route: str, idempotency_key: str) -> str:
    """The record of a caller's key on one route. The owner is part of it: responses do not move with an API key to
    another owner. Hashed, since it is the client's text; the braces are Redis Cluster's hash tag, around all of it, so
    that one caller's records spread over all nodes."""
    digest = sha256(f"{holder.owner}\0{route}\n{idempotency_key}".encode()).hexdigest()
    return f"fbp:idem:2:{{{holder.key_id}:{digest}}}"


def fingerprint_of(body: bytes) -> str:
    """Tells bodies apart without keeping them: SHA-256 of the bytes as they came."""
    return sha256(body).hexdigest()
