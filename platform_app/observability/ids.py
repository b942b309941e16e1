"""Ids of requests and spans: unique, not secret.

From a generator that the system's entropy seeds once per process: asking the kernel for every id would cost three
system calls a request, and nobody gains anything by guessing one.
"""

import random
import secrets

_random = random.Random(secrets.randbits(256))  # noqa: S311 - ids, no secrets


def trace_id() -> str:
    """32 lower-case hex digits, never all zero."""
    return f"{_random.getrandbits(128) or 1:032x}"


def span_id() -> str:
    """16 lower-case hex digits, never all zero."""
    return f"{_random.getrandbits(64) or 1:016x}"


def request_id() -> str:
    """32 lower-case hex digits."""
    return trace_id()
