"""The interface of stores for Idempotency-Keys, and its results."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

NOT_KEPT = b""
"""The marker that is stored in place of a response that is too large or does not fit: the work was done."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A request's claim to a key."""

    record: str
    """The record's name, from `record_name`."""
    fingerprint: str
    """Hash of the request's body. The same key with another body is refused."""
    owner: str
    """An id of this request."""


class State(StrEnum):
    """State of a key's record."""

    STARTED = "begun"
    """There was no record; the claim now holds the key."""
    IN_FLIGHT = "in_flight"
    """Another request holds the key."""
    CLIENT_DISCONNECTED = "left"
    """Another request holds the key. Its client has disconnected, and its work continues."""
    OTHER_BODY = "other_body"
    """The key was used for another body."""
    DONE = "done"
    """The response, or a marker, is stored."""


@dataclass(frozen=True, slots=True)
class Found:
    """Result of `begin`; with DONE the stored response, which may be NOT_KEPT."""

    state: State
    response: bytes = b""


class Finish(StrEnum):
    """Result of `finish`."""

    KEPT = "held"
    NO_ROOM = "no_room"
    """The store's memory is almost full; only a marker was stored."""
    LOST = "lost"
    """The lease had expired, and another request holds the key or has finished; nothing was stored."""


class IdempotencyStore(Protocol):
    """Records of keys, shared by all processes. Every method raises IdempotencyUnavailable if the store is unavailable;
    the change may then have been made or not."""

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        """Look the key up; without a record, hold the key for the lease. This is one atomic step. A claim that already
        holds the key gets STARTED again."""
        ...

    async def renew(self, claim: Claim, lease_seconds: float, *, client_disconnected: bool = False) -> bool:
        """Renew the lease, and note whether the client has disconnected. Return False if the lease had expired and
        another request holds the key or has finished."""
        ...

    async def finish(self, claim: Claim, response: bytes, keep_seconds: int) -> Finish:
        """Store the response for the next request with this key."""
        ...

    async def release(self, claim: Claim) -> bool:
        """Delete the record, so that the next request with the key runs. Return False as for `renew`."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """The API key and owner for which a response is stored; quotas count by them."""

    key_id: str
    owner: str


class StorageQuota(Protocol):
    """Limits how much is stored for an API key and for an owner. Bytes count from when they are stored until they
    expire."""

    async def take_response(self, holder: Holder, size: int) -> bool:
        """Count a response of `size` bytes. If it does not fit, count nothing and return False."""
        ...

    async def take_marker(self, holder: Holder) -> None:
        """Count a marker."""
        ...

    def require_marker(self, holder: Holder) -> None:
        """Raise RateLimited while there is no room even for markers. Does no I/O."""
        ...


class UnlimitedQuota:
    """Allows any amount."""

    async def take_response(self, holder: Holder, size: int) -> bool:
        """See StorageQuota.take_response."""
        return True

    async def take_marker(self, holder: Holder) -> None:
        """See StorageQuota.take_marker."""

    def require_marker(self, holder: Holder) -> None:
        """See StorageQuota.require_marker."""


def record_name(holder: Holder, route: str, idempotency_key: str) -> str:
    """Return the name of the record of a caller's key on one route.

    The owner is part of it: responses do not move with an API key to another owner. The client's text is hashed. The
    braces are Redis Cluster's hash tag; they contain the hash, so that one caller's records are spread over all nodes.
    """
    digest = sha256(f"{holder.owner}\0{route}\n{idempotency_key}".encode()).hexdigest()
    return f"fbp:idem:2:{{{holder.key_id}:{digest}}}"


def fingerprint_of(body: bytes) -> str:
    """Return the SHA-256 of a body's bytes, which distinguishes bodies without storing them."""
    return sha256(body).hexdigest()
