"""One gateway process: uvicorn on a socket that the parent bound, draining before it stops.

Exit codes: 0 stopped on request, 2 the configuration is not valid (a required secret is missing, for example), 3 it
could not start for another reason.

Started by `flowbiz-platform serve`, see `__main__.py`.
"""

import asyncio
import gc
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import NoReturn, cast

import uvicorn

from apps.platform_api.main import create_app
from apps.platform_api.server.connections import Connections
from apps.platform_api.server.heartbeat import report_failure, start_heartbeat
from apps.platform_api.server.limits import server_limits
from apps.platform_api.server.listening import accept_waiting
from apps.platform_api.server.memory import return_free_memory
from apps.platform_api.server.protocol import ServerProtocol, protocol_factory
from apps.platform_api.server.state import ServerState
from platform_app.config import Settings, load_settings
from platform_app.credential_forms import mask_credentials
from platform_app.errors import ConfigurationError, only_temporary
from platform_app.observability.event_loop.timer import start_loop_timer
from platform_app.observability.logging import configure_logging, get_logger
from platform_app.observability.logs.exceptions import exception_fields
from platform_app.observability.logs.known_secrets import mask_known_secrets
from platform_app.observability.logs.level import DEBUG_SIGNAL, LOG_LEVEL
from platform_app.observability.logs.secret_settings import hide_secrets_of
from platform_app.observability.logs.unhandled import capture_unhandled
from platform_app.observability.metrics.changes import CHANGES

FIRST_REQUEST_SECONDS = 1.0
"""At a stop, the time for the first request of each connection."""
_LOOK_SECONDS = 0.02
GARBAGE_OBJECTS = 14_000
"""So many more objects than before, and the youngest are searched for cycles: a few megabytes."""
MAX_OPEN_FILES = 65_536


class DrainingServer(uvicorn.Server):
    """On SIGTERM: unready for `drain_seconds`, so that load balancers look elsewhere; then no new connections,
    and running requests get the grace period."""

    def __init__(self, config: uvicorn.Config, state: ServerState, drain_seconds: float) -> None:
        super().__init__(config)
        self._state = state
        state.tasks = self.server_state.tasks
        self._drain_seconds = drain_seconds
        self._stop_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once; the application's own start is part of it."""
        await super().startup(sockets)
        if len(sys.argv) > 2:  # a parent watches
            start_heartbeat(int(sys.argv[2]))
        start_loop_timer()
        # What is there now stays: it need not be looked through again. And requests leave next to no cycles, so looking
        # after every 700 objects, as by default, finds nothing 20 times as often: 6 % of the time under load.
        gc.collect()
        return_free_memory()
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by the signal handler; a second signal stops at once."""
        if self._stop_at is not None:
            super().handle_exit(sig, frame)
        self._state.draining = True
        self._stop_at = time.monotonic() + self._drain_seconds
        self._state.ends_at = self._stop_at + (self.config.timeout_graceful_shutdown or 0)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once. Connections without a request get the time to send one: to close them now would reset those
        whose request has arrived. Each such request gets 503 `draining`, and its connection closes."""
        loop = asyncio.get_running_loop()
        for connection in accept_waiting(self.servers, sockets or []):
            await loop.connect_accepted_socket(self._make_protocol, connection)
        for _ in range(int(FIRST_REQUEST_SECONDS / _LOOK_SECONDS)):
            await asyncio.sleep(_LOOK_SECONDS)
            if not any(cast(ServerProtocol, each).awaits_first_request() for each in self.server_state.connections):
                break
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        make = cast(Callable[..., asyncio.Protocol], self.config.http_protocol_class)
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; true ends the main loop."""
        LOG_LEVEL.apply_requested()
        if self._stop_at is not None and time.monotonic() >= self._stop_at:
            self.should_exit = True
        return await super().on_tick(counter)


def uvicorn_config(settings: Settings, state: ServerState) -> uvicorn.Config:
    """The one place that tunes the server."""
    limits = server_limits(settings, _raise_open_files())
    return uvicorn.Config(
        create_app(settings, state),
        loop="uvloop",
        http=protocol_factory(limits, Connections(limits)),  # type: ignore[arg-type]  # called, as a class would be
        ws="none",
        lifespan="on",
        log_config=None,  # our own logging is configured
        access_log=False,  # the middleware writes one line per request
        server_header=False,
        proxy_headers=False,  # no client may choose its address; trusted proxies are a setting of auth
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
        backlog=2048,
    )


def _raise_open_files() -> int:
    """Allow this process as many file descriptors as the system lets it have; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MAX_OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def main() -> None:
    """Serve until a signal stops the process."""
    try:
        _serve()
    except Exception as error:
        _report(error)
        raise


def _serve() -> NoReturn:
    try:
        settings = load_settings()
    except ConfigurationError as error:
        configure_logging()
        _refuse(error.problems)
    configure_logging(settings.log_level, settings.log_format, repeats_per_second=settings.log_repeats_per_second)
    hide_secrets_of(settings)
    capture_unhandled()
    if settings.metrics_cache_seconds:
        CHANGES.write_later()  # the loop's timer writes them
    state = ServerState()
    signal.signal(signal.SIGHUP, partial(_on_reload, state))
    signal.signal(DEBUG_SIGNAL, lambda *_: LOG_LEVEL.request_debug())
    server = DrainingServer(uvicorn_config(settings, state), state, settings.shutdown_drain_seconds)
    with socket.socket(fileno=int(sys.argv[1])) as listening, suppress(SystemExit):  # uvicorn's, of a start that failed
        server.run(sockets=[listening])
    CHANGES.write_at_once()
    if state.configuration_problems:
        _refuse(state.configuration_problems)
    if state.start_error is not None:
        _report(state.start_error)
    sys.exit(0 if server.started else 3)


def _on_reload(state: ServerState, *_: object) -> None:
    LOG_LEVEL.request_configured()
    if state.reload_config is not None:
        state.reload_config()


def _refuse(problems: Sequence[str]) -> NoReturn:
    get_logger("worker").error("configuration_not_valid", problems=list(problems))
    _write_reason("; ".join(problems))
    sys.exit(3 if only_temporary(problems) else 2)


def _report(error: Exception) -> None:
    """Write to the parent what ended the start: type and location, and the message if the gateway wrote it."""
    fields = exception_fields(error)
    message = f": {fields['error_message']}" if "error_message" in fields else ""
    _write_reason(f"{fields['error']}{message} ({fields['error_at'][-1]})")


def _write_reason(reason: str) -> None:
    if len(sys.argv) > 2:  # a parent watches
        masked = mask_known_secrets(mask_credentials(reason.encode()))
        report_failure(int(sys.argv[2]), masked.decode(errors="replace"))
