"""Where Idempotency-Keys are kept: the interface and its answers."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Protocol

TOO_LARGE = b""
"""Kept in place of an answer that is larger than answers may be: that the work was done is remembered all the same."""


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
    OTHER_BODY = "other_body"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Found:
    """What `begin` came to; `answer` where it is DONE, TOO_LARGE among them."""

    state: State
    answer: bytes = b""


class IdempotencyStore(Protocol):
    """Records of keys, shared by all processes. Every method raises IdempotencyUnavailable where it cannot be asked;
    whether the change was made is unknown then."""

    async def begin(self, claim: Claim, lease_seconds: float) -> Found:
        """Look the key up and, where nothing is known of it, hold it for the lease: one atomic step."""
        ...

    async def renew(self, claim: Claim, lease_seconds: float) -> bool:
        """Hold on. False: somebody else holds it or has finished, since the lease had ended."""
        ...

    async def finish(self, claim: Claim, answer: bytes, keep_seconds: int) -> bool:
        """Keep the answer for whoever sends the key again. False as for `renew`; then nothing is kept."""
        ...

    async def release(self, claim: Claim) -> bool:
        """Forget the key, so that the next request with it works for real. False as for `renew`."""
        ...


def record_name(key_id: str, route: str, idempotency_key: str) -> str:
    """A caller's key on one route. Hashed, since it is the client's text; the braces are Redis Cluster's hash tag,
    around all of it, so that one caller's records spread over all nodes."""
    digest = sha256(f"{route}\n{idempotency_key}".encode()).hexdigest()
    return f"fbp:idem:1:{{{key_id}:{digest}}}"


def fingerprint_of(body: bytes) -> str:
    """Tells bodies apart without keeping them: SHA-256 of the bytes as they came."""
    return sha256(body).hexdigest()
