"""The simulator as a process of its own."""

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
    """Runs the simulator until cancelled, or stopped by SIGTERM or SIGINT when this is the main thread.

    Calls `on_ready` with the base URL and the refused URL once it listens.

    Raises:
        OSError: the address cannot be had.
    """
    stop = asyncio.Event()
    with _signals_set(stop):
        async with ProviderSimulator(host, port, api_key) as simulator:
            if on_ready is not None:
                on_ready(simulator.base_url, simulator.refused_url)
            await stop.wait()


def run(host: str, port: int, ready_file: Path | None = None) -> None:
    """Runs the simulator until it is signalled; leaves with exit code 2 when it cannot listen.

    `ready_file` gets the URLs and the process id as JSON once connections are accepted.
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
    """Whoever waits for the file never sees half of it."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(orjson.dumps({"base_url": base_url, "refused_url": refused_url, "pid": os.getpid()}))
    partial.replace(path)


@contextmanager
def _signals_set(stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set the event; elsewhere than in the main thread Python allows no handlers."""
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
