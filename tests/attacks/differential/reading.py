"""What a reader made of a connection's bytes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """One request that was read to its end."""

    method: str
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """All complete requests in order, and whether what follows them was refused."""

    requests: tuple[ReadRequest, ...]
    refused: bool
    reason: str = ""
    statuses: tuple[int, ...] = ()
    """Of the responses, where the reader is a server."""
