"""Script calls over one shared connection: many requests at once, each waiting for its own answer.

A pool gives each request a connection, a lock, a retry policy and timers of its own, which costs more than the script
itself. Redis answers in the order of the questions, so one connection serves all: whatever is asked in one turn of the
event loop leaves in one write. redis-py still connects, authenticates, encrypts and parses; hiredis writes, in a
quarter of its time.

One timer watches over all questions. It counts only what Redis can be blamed for: time in which this process was busy
with other things does not count (own_stalls.py), and what has arrived is read before anybody is told that it did not.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from platform_app.observability.own_stalls import LAST_LOOKS, ResponsiveClock, result_within

STALL_SECONDS = 1.0
"""A connection that owes an answer for longer is given up."""
MAX_PENDING = 20_000
"""Questions without an answer yet. More would mean that nobody gives up in time."""

_Pending = tuple[float, asyncio.Future[Any]]


class PipelinedRedis:
    """EVALSHA and EVAL. Connects with the first question, and again with the first one after a failure."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """`url` as redis-py takes it: redis://, rediss:// or unix://. The timeout is for connecting, and for each
        answer."""
        # Reads have no timeout of their own here: silence is normal while nobody asks.
        self._pool = ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=timeout_seconds, health_check_interval=0
        )
        self._timeout = timeout_seconds
        self._clock = ResponsiveClock(timeout_seconds)
        self._watching = False
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._pending: deque[_Pending] = deque()
        self._unsent: list[bytes] = []
        self._reader: asyncio.Task[None] | None = None

    async def warm(self, scripts: Iterable[str], seconds: float) -> bool:
        """Connect and load scripts, so that the first request finds all done. Whether Redis was there in time."""
        try:
            async with asyncio.timeout(seconds):
                for script in scripts:
                    await self._ask("SCRIPT", "LOAD", script)
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def command(self, *command: str | int | bytes) -> Any:
        """The answer to any command; raises like evalsha."""
        return await self._ask(*command)

    async def evalsha(self, sha: str, numkeys: int, *arguments: str | int | bytes) -> Any:
        """The script's answer; raises RedisError (NoScriptError among them), OSError, or TimeoutError."""
        return await self._ask("EVALSHA", sha, numkeys, *arguments)

    async def eval(self, script: str, numkeys: int, *arguments: str | int | bytes) -> Any:
        """The script's answer; raises like evalsha."""
        return await self._ask("EVAL", script, numkeys, *arguments)

    def begin(self, sha: str, numkeys: int, *arguments: str | int | bytes) -> "asyncio.Future[Any] | None":
        """As evalsha, without a task to wait in: the answer to be, or None where it would have to be waited for first.
        The future fails like evalsha; whoever cancels it does not want the answer."""
        if self._connection is None or self._stalled() or len(self._pending) >= MAX_PENDING:
            return None
        return self._send(self._connection, ("EVALSHA", sha, numkeys, *arguments))

    async def aclose(self) -> None:
        """Close the connection; whoever still waits gets an error."""
        self._closed = True  # for a command that is still connecting
        await self._drop(self._connection, RedisConnectionError("closed"))

    async def _ask(self, *command: str | int | bytes) -> Any:
        connection = self._connection
        if connection is None:
            connection = await self._connect()
        elif self._stalled():
            await self._drop(connection, RedisConnectionError("the server owes an answer for too long"))
            connection = await self._connect()
        if len(self._pending) >= MAX_PENDING:
            raise RedisConnectionError("too many questions wait for an answer")
        return await self._send(connection, command)

    def _stalled(self) -> bool:
        return bool(self._pending) and self._clock.now - self._pending[0][0] > STALL_SECONDS

    def _send(self, connection: AbstractConnection, command: tuple[str | int | bytes, ...]) -> "asyncio.Future[Any]":
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._unsent:
            loop.call_soon(self._flush, connection)
        self._unsent.append(pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one
        # The clock stands at its last look, and the question leaves after this turn: it is given a tick more.
        self._pending.append((self._clock.now + self._clock.tick, future))
        if not self._watching:
            self._watching = True
            self._clock.begin()
            loop.call_later(self._clock.tick, self._watch, 0)
        return future

    def _watch(self, looks: int) -> None:
        """Fail what waits for too long. Looks again a few turns of the event loop later before it does: what has
        arrived is read in between."""
        loop = asyncio.get_running_loop()
        over = self._clock.look() - self._timeout
        late = [future for asked_at, future in self._pending if asked_at <= over and not future.done()]
        if late and looks < LAST_LOOKS:
            loop.call_later(0.001, self._watch, looks + 1)
            return
        for future in late:
            future.set_exception(TimeoutError(f"no answer within {self._timeout:g} s"))
        if self._pending:
            loop.call_later(self._clock.tick, self._watch, 0)
        else:
            self._watching = False

    def _flush(self, connection: AbstractConnection) -> None:
        if connection is not self._connection:
            return  # it was given up, and with it what it should have sent; what is unsent now has a turn of its own
        unsent, self._unsent = self._unsent, []
        writer = connection._writer
        if writer is not None:
            # Not drained: what waits is bounded by MAX_PENDING, and a full buffer shows as answers that stay away.
            writer.writelines(unsent)

    async def _connect(self) -> AbstractConnection:
        # A frozen server accepts and then says nothing: the greeting has no timeout of its own, and whoever waits for
        # its turn to connect waits as well.
        return await result_within(self._timeout, self._connected())

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
                try:
                    if not self._closed:
                        await connection.connect()
                    if self._closed:  # also meanwhile: nothing would close the connection again
                        raise RedisConnectionError("closed")
                except BaseException:
                    await _close(connection)
                    raise
                self._connection = connection
                self._reader = asyncio.create_task(self._read(connection), name="script-pipe")
            return self._connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Hand each answer to whoever asked; ends with the connection."""
        try:
            while True:
                try:
                    answer = await connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    answer = error
                _, future = self._pending.popleft()
                if future.done():  # nobody waits any more
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except (RedisError, OSError, IndexError) as error:
            await self._drop(connection, error)

    async def _drop(self, connection: AbstractConnection | None, error: Exception) -> None:
        if connection is None or connection is not self._connection:
            return
        self._connection, reader, self._reader = None, self._reader, None
        pending, self._pending = self._pending, deque()
        self._unsent = []
        for _, future in pending:
            if not future.done():
                future.set_exception(RedisConnectionError(f"the connection was lost: {type(error).__name__}"))
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        await _close(connection)


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.disconnect(nowait=True)
