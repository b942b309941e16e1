"""Ids of requests and spans: unique, not secret.

They come from a generator that is seeded once per process from the system's entropy. Reading the kernel's entropy for
each id would cost three system calls per request, and guessing an id gives an attacker nothing.
"""

import random
import secrets

_random = random.Random(secrets.randbits(256))  # noqa: S311 - ids are not secrets


def trace_id() -> str:
    """32 lower-case hex digits, never all zero."""
    return f"{_random.getrandbits(128) or 1:032x}"


def span_id() -> str:
    """16 lower-case hex digits, never all zero."""
    return f"{_random.getrandbits(64) or 1:016x}"


def request_id() -> str:
    """32 lower-case hex digits."""
    return trace_id()
