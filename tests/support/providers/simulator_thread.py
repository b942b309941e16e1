"""A simulator beside its caller."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from apps.provider_simulator.server import ProviderSimulator


@contextmanager
def running_simulator() -> Iterator[ProviderSimulator]:
    """Run a simulator with its own loop and thread, since a blocking client would block the loop of its caller."""
    running = ProviderSimulator()
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(running.start(), loop).result(10)
        yield running
    finally:
        asyncio.run_coroutine_threadsafe(running.aclose(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
