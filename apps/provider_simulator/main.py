"""Run the simulator as a process."""

import asyncio
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import uvloop

from apps.provider_simulator.server import ProviderSimulator

EXIT_CANNOT_LISTEN = 2


async def serve(
    host: str,
    port: int,
    api_key: str | None = None,
    on_ready: Callable[[str, str], None] | None = None,
) -> None:
    """Run the simulator until it is cancelled or, in the main thread, stopped by SIGTERM or SIGINT.

    When it listens, call `on_ready` with the base URL and the refused URL.

    Raises:
        OSError: the address cannot be bound.
    """
    stop = asyncio.Event()
    with _signals_set(stop):
        async with ProviderSimulator(host, port, api_key) as simulator:
            if on_ready is not None:
                on_ready(simulator.base_url, simulator.refused_url)
            await stop.wait()


def run(host: str, port: int, ready_file: Path | None = None) -> None:
    """Run the simulator until a signal stops it. Exit with code 2 if it cannot listen.

    When connections are accepted, the URLs and the process id are written to `ready_file` as JSON.
    """

    def announce(base_url: str, refused_url: str) -> None:
        if ready_file is not None:
            _write_ready_file(ready_file, base_url, refused_url)
        sys.stdout.write(f"provider simulator ready at {base_url}\n")
        sys.stdout.flush()

    try:
        uvloop.run(serve(host, port, on_ready=announce))
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else str(error)
        sys.stderr.write(f"provider simulator cannot listen on {host}:{port}: {reason}\n")
        raise SystemExit(EXIT_CANNOT_LISTEN) from None


def _write_ready_file(path: Path, base_url: str, refused_url: str) -> None:
    """Write the file atomically, so that a process that waits for it never reads half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(orjson.dumps({"base_url": base_url, "refused_url": refused_url, "pid": os.getpid()}))
    partial.replace(path)


@contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    """Let SIGTERM and SIGINT set the event. Python allows handlers only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
