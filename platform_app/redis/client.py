"""Run scripts and commands over one connection that all requests share.

A connection pool gives each request a connection, a lock, a retry policy and timers, which costs more than the script
itself. Redis responds in the order of the commands, so one connection serves all requests: the commands of one
event-loop iteration are sent in one write. redis-py connects, authenticates and encrypts. hiredis encodes the commands,
in a quarter of redis-py's time, and redis-py's parser around hiredis reads the responses, without the three coroutines
that redis-py's connection puts around each.

One timer covers all commands. It counts only time in which this process was responsive (own_stalls.py), and it reads
what has arrived before it fails a command.

An error such as READONLY says that the server behind this connection no longer serves (failures.py). Then the
connection takes no more commands, and the next one opens another connection, which looks the name up again. The command
that got the error had no effect, so it is sent once more.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError

from platform_app.observability.event_loop.own_stalls import LAST_LOOKS, ResponsiveClock, result_within
from platform_app.redis.failures import condemns_connection
from platform_app.redis.scripts import Script
from platform_app.redis.tls import share_tls

STALL_SECONDS = 1.0
"""A connection is closed if its oldest command has waited longer than this for a response."""
IDLE_SECONDS = 60.0
"""A connection that was idle for longer is replaced before it is used: firewalls drop idle connections after minutes
without a message to either side."""
MAX_PENDING = 20_000
"""Most commands without a response. More means that timeouts do not work."""

_Command = tuple[str | int | bytes, ...]
_Pending = tuple[float, "asyncio.Future[Any]", _Command, Script | None]
"""When it was sent, the future of its response, the command, and the script that it names by SHA-1."""


class PipelinedRedis:
    """A ScriptClient for one server. Connects with the first command, and again with the first one after a failure."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        """
        Args:
            url: in redis-py's form: redis://, rediss:// or unix://.
            timeout_seconds: to connect, and for each response.
        """
        # Reads have no timeout: a connection without commands is idle, which is normal.
        self._pool = ConnectionPool.from_url(
            url, socket_timeout=None, socket_connect_timeout=timeout_seconds, health_check_interval=0
        )
        share_tls(self._pool)
        self._timeout = timeout_seconds
        self._clock = ResponsiveClock(timeout_seconds)
        self._watching = False
        self._idle_since = time.monotonic()
        self._connection: AbstractConnection | None = None
        self._connecting = asyncio.Lock()
        self._closed = False
        self._pending: deque[_Pending] = deque()
        self._unsent: list[bytes] = []
        self._reader: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        """Tasks that read the last responses of condemned connections, and those that send a command once more."""
        self._repeated: set[asyncio.Future[Any]] = set()
        """Futures of commands that were sent once more."""

    async def load_scripts(self, scripts: Iterable[Script], seconds: float) -> bool:
        """Connect and load the scripts, so that the first request does not have to. Return False on any failure or
        after `seconds`; requests then connect and load."""
        try:
            async with asyncio.timeout(seconds):
                for script in scripts:
                    await self.execute_command("SCRIPT", "LOAD", script.text)
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | int | bytes]) -> "asyncio.Future[Any]":
        """See ScriptClient.run. Without a usable connection the script is sent from a task, which connects first. Most
        requests need no task, which would cost more than the script."""
        command = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
        connection = self._connection
        if connection is None or self._stalled() or self._aged() or len(self._pending) >= MAX_PENDING:
            return asyncio.ensure_future(self._connect_and_send(command, script))
        return self._send(connection, command, script)

    async def execute_command(self, *command: str | int | bytes) -> Any:
        """Return the response to any command; raises RedisError, OSError or TimeoutError."""
        return await self._connect_and_send(command, None)

    async def aclose(self) -> None:
        """Close the connection; commands without a response fail."""
        self._closed = True  # for a command that is still connecting
        await self._drop(self._connection, RedisConnectionError("closed"))
        for task in self._retired:
            task.cancel()
        await asyncio.gather(*self._retired, return_exceptions=True)

    async def _connect_and_send(self, command: _Command, script: Script | None) -> Any:
        connection = self._connection
        if connection is None:
            connection = await self._connect()
        elif self._stalled():
            await self._drop(connection, RedisConnectionError(f"no response for more than {STALL_SECONDS:g} s"))
            connection = await self._connect()
        elif self._aged():
            await self._drop(connection, RedisConnectionError("idle"))
            connection = await self._connect()
        if len(self._pending) >= MAX_PENDING:
            raise RedisConnectionError(f"{MAX_PENDING} commands wait for a response")
        return await self._send(connection, command, script)

    def _stalled(self) -> bool:
        return bool(self._pending) and self._clock.now - self._pending[0][0] > STALL_SECONDS

    def _aged(self) -> bool:
        return not self._watching and time.monotonic() - self._idle_since > IDLE_SECONDS

    def _send(
        self,
        connection: AbstractConnection,
        command: _Command,
        script: Script | None,
        future: "asyncio.Future[Any] | None" = None,
    ) -> "asyncio.Future[Any]":
        """Return the future of the response, which is the given one where there is one."""
        loop = asyncio.get_running_loop()
        if future is None:
            future = loop.create_future()
        if not self._unsent:
            loop.call_soon(self._flush, connection)
        self._unsent.append(pack_command(command))  # type: ignore[arg-type]  # its stub knows tuples of one
        # The clock shows its last look, and the command is sent after this iteration: it gets one tick more.
        self._pending.append((self._clock.now + self._clock.tick, future, command, script))
        if not self._watching:
            self._watching = True
            self._clock.begin()
            loop.call_later(self._clock.tick, self._watch, 0)
        return future

    def _watch(self, looks: int) -> None:
        """Fail commands that wait too long. Before that, look again a few event-loop iterations later: what has
        arrived is read in between."""
        loop = asyncio.get_running_loop()
        latest = self._clock.look() - self._timeout
        late = [future for sent_at, future, *_ in self._pending if sent_at <= latest and not future.done()]
        if late and looks < LAST_LOOKS:
            loop.call_later(0.001, self._watch, looks + 1)
            return
        for future in late:
            future.set_exception(TimeoutError(f"Redis did not respond within {self._timeout:g} s"))
        if self._pending:
            loop.call_later(self._clock.tick, self._watch, 0)
        else:
            self._watching = False
            self._idle_since = time.monotonic()

    def _flush(self, connection: AbstractConnection) -> None:
        if connection is not self._connection:
            return  # it was dropped with its unsent commands; newer ones have a callback scheduled
        unsent, self._unsent = self._unsent, []
        writer = connection._writer
        if writer is not None:
            # Not drained: MAX_PENDING bounds the buffer, and a full buffer shows as missing responses.
            writer.writelines(unsent)

    async def _connect(self) -> AbstractConnection:
        # redis-py has no separate timeout for the handshake, and a frozen server accepts without ever responding.
        # This timeout also covers waiting for another command that connects.
        return await result_within(self._timeout, self._connected())

    async def _connected(self) -> AbstractConnection:
        async with self._connecting:
            if self._connection is None:
                connection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py
                try:
                    if not self._closed:
                        await connection.connect()
                    if self._closed:  # also if it was closed while connecting: nothing else would close the connection
                        raise RedisConnectionError("closed")
                except BaseException:
                    await _close(connection)
                    raise
                self._connection = connection
                self._idle_since = time.monotonic()
                self._reader = asyncio.create_task(self._read(connection, self._pending), name="redis-reader")
            return self._connection

    async def _read(self, connection: AbstractConnection, pending: deque[_Pending]) -> None:
        """Resolve the commands' futures in order; ends with the connection, or when an error condemns it."""
        try:
            while connection is self._connection:
                response = await _response(connection)
                self._resolve(connection, pending.popleft(), response)
        except (RedisError, OSError, IndexError) as error:
            await self._drop(connection, error)

    async def _read_last(self, connection: AbstractConnection, pending: deque[_Pending]) -> None:
        """Resolve the futures of a condemned connection, and close it."""
        error: Exception = RedisConnectionError("no response")
        try:
            async with asyncio.timeout(self._timeout):
                while pending:
                    response = await _response(connection)
                    self._resolve(connection, pending.popleft(), response)
        except (RedisError, OSError, TimeoutError) as raised:
            error = raised
        finally:
            _fail(pending, error)
            await _close(connection)

    def _resolve(self, connection: AbstractConnection, oldest: _Pending, response: Any) -> None:
        """Hand a response to the command that it belongs to."""
        _, future, command, script = oldest
        condemned = isinstance(response, Exception) and condemns_connection(response)
        if condemned and connection is self._connection:
            self._retire(connection)
        if future.done():  # cancelled, or timed out
            return
        if not isinstance(response, Exception):
            future.set_result(response)
        elif script is not None and isinstance(response, NoScriptError) and connection is self._connection:
            # A new or flushed server, which ran nothing. EVAL also loads the script.
            self._send(connection, ("EVAL", script.text, *command[2:]), None, future)
        elif (condemned or connection is not self._connection) and future not in self._repeated:
            self._repeated.add(future)
            future.add_done_callback(self._repeated.discard)
            self._keep(self._repeat(command, script, future, response))
        else:
            future.set_exception(response)

    def _retire(self, connection: AbstractConnection) -> None:
        """Send no more on this connection; what was sent still gets its responses."""
        self._flush(connection)
        self._connection, self._reader = None, None  # the reader ends by itself
        pending, self._pending = self._pending, deque()
        self._keep(self._read_last(connection, pending))

    async def _repeat(
        self, command: _Command, script: Script | None, future: "asyncio.Future[Any]", error: Exception
    ) -> None:
        """Send a command that had no effect on another connection; fail it with its error if there is none."""
        try:
            connection = self._connection or await self._connect()
        except (RedisError, OSError, TimeoutError):
            if not future.done():
                future.set_exception(error)
        else:
            if not future.done():
                self._send(connection, command, script, future)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="redis-retired")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def _drop(self, connection: AbstractConnection | None, error: Exception) -> None:
        if connection is None or connection is not self._connection:
            return
        self._connection, reader, self._reader = None, self._reader, None
        pending, self._pending = self._pending, deque()
        self._unsent = []
        _fail(pending, error)
        if reader is not None and reader is not asyncio.current_task():
            reader.cancel()
        await _close(connection)


def _response(connection: AbstractConnection) -> Coroutine[Any, Any, Any]:
    """Read the next response. An error is returned like any other; what ends the connection is raised."""
    response: Coroutine[Any, Any, Any] = connection._parser.read_response()  # type: ignore[attr-defined]  # of each parser
    return response


def _fail(pending: Iterable[_Pending], error: Exception) -> None:
    """Fail the commands of a lost connection."""
    for _, future, *_ in pending:
        if not future.done():
            lost = RedisConnectionError(f"the connection was lost: {type(error).__name__}")
            lost.__cause__ = error
            future.set_exception(lost)


async def _close(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(0.2):
            await connection.disconnect(nowait=True)
