"""Lua scripts and the interface that runs them."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script's text, and the SHA-1 by which a server that has loaded it knows it."""

    text: str
    sha: str


def make_script(text: str) -> Script:
    """Return the script with this text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class ScriptClient(Protocol):
    """Runs scripts: `PipelinedRedis` on one server, `PipelinedCluster` on a cluster."""

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        """Send the script now and return a future of its result. A script that the server has not loaded is loaded.

        Cancelling the future does not stop a script that was sent. The future fails with RedisError, OSError or
        TimeoutError. After these the script may have run or not.
        """
        ...
