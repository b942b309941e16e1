"""The scripts that run in Redis, and running them."""

import asyncio
import hashlib
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Protocol

from redis.exceptions import NoScriptError


class ScriptClient(Protocol):
    """What runs scripts: PipelinedRedis, PipelinedCluster, or redis-py's own client."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: str | int) -> Awaitable[Any]:
        """Run a script that the server knows; raises NoScriptError where it does not."""
        ...

    def eval(self, script: str, numkeys: int, *keys_and_args: str | int) -> Awaitable[Any]:
        """Run a script, which the server then knows."""
        ...


class EagerScriptClient(ScriptClient, Protocol):
    """One that can send before anybody waits: PipelinedRedis."""

    def begin(self, sha: str, numkeys: int, *keys_and_args: str | int) -> "asyncio.Future[Any] | None":
        """As `evalsha`: the answer to be, or None where something has to be waited for first."""
        ...


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text and the name by which a server knows it."""

    text: str
    sha: str

    async def run(self, client: ScriptClient, keys: Sequence[str], arguments: Sequence[str | int]) -> Any:
        """The script's answer; raises like the client."""
        try:
            return await client.evalsha(self.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # a new or flushed server; EVAL also loads the script
            return await client.eval(self.text, len(keys), *keys, *arguments)

    def begin(
        self, client: EagerScriptClient, keys: Sequence[str], arguments: Sequence[str | int]
    ) -> "asyncio.Future[Any] | None":
        """The script's answer to be, which fails with a NoScriptError where `run` would send the text."""
        return client.begin(self.sha, len(keys), *keys, *arguments)


def script_of(text: str) -> Script:
    """A script by its text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _load(*names: str) -> Script:
    """A script of this package, behind the text that all share."""
    package = files("platform_app.rate_limit") / "lua"
    parts = ((package / f"{name}.lua").read_text(encoding="utf-8") for name in ("sliding_window", *names))
    return script_of("".join(parts))


ACQUIRE, SETTLE, RENEW, READ = (_load(name) for name in ("acquire", "settle", "renew", "read"))
SETTLE_ONCE = _load("once", "settle")
SEED = _load("seed")
ALL = (ACQUIRE, SETTLE, RENEW, READ, SETTLE_ONCE, SEED)
