"""Ordinary traffic with everything that an ordinary day has, at a constant rate."""

import asyncio
import itertools
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import aiohttp

TIMEOUT_SECONDS = 120.0
_BODIES: tuple[dict[str, Any], ...] = (
    {"prompt": "Say hello."},
    {"prompt": "tokens:20", "stream": True},
    {"prompt": "Say hello.", "model": "failing"},
    {"prompt": "Say hello.", "model": "unknown"},
    {"prompt": "tokens:200", "stream": True, "leave": True},
    {"prompt": ""},
    {"prompt": "Say hello.", "model": "late"},
)
"""Each is a seventh of the requests: served, streamed, a provider's failure, an unknown model, a client that
disconnects after the first bytes, a refused body, and a provider's timeout. On a busy machine any request can end in a
timeout, so its series must exist after the warm-up."""
EXPECTED = {"200", "404", "400", "502", "422", "left", "503", "504"}


@dataclass
class Traffic:
    """Sends so many requests each second until `stopped`, with the key that `key` holds at the moment."""

    base_url: str
    key: str
    per_second: float
    results: Counter[str] = field(default_factory=Counter)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send; blocks."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(self.base_url, timeout=timeout) as session:
            began = time.monotonic()
            for number in itertools.count(1):
                await asyncio.sleep(max(0.0, began + number / self.per_second - time.monotonic()))
                if self.stopped.is_set():
                    break
                if len(tasks) < 100:
                    task = asyncio.create_task(self._request(session, dict(_BODIES[number % len(_BODIES)])))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            await asyncio.gather(*tasks)

    async def _request(self, session: aiohttp.ClientSession, body: dict[str, Any]) -> None:
        leaves = body.pop("leave", False)
        headers = {"Authorization": f"Bearer {self.key}"}
        try:
            async with session.post("/v1/platform/chat", json=body, headers=headers) as response:
                if leaves:
                    await response.content.readany()
                    response.close()
                    self.results["left"] += 1
                    return
                await response.read()
                self.results[str(response.status)] += 1
        except (aiohttp.ClientError, TimeoutError) as error:
            self.results[type(error).__name__] += 1
