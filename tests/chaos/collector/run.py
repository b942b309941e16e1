"""The phases on a running gateway: a healthy collector, each fault under load, and the recovery after each."""

import asyncio
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from apps.platform_cli.embedded import processes
from tests.chaos.collector.collector import FAULTS, Collector
from tests.chaos.collector.measured import Counts, Phase
from tests.support.gateway.http import workers
from tests.support.gateway.process import Gateway

HEALTHY = "healthy"
STOPPED = "exporter stopped"
"""The collector works; the process that exports gets no CPU time, so the pipe from the worker fills up."""
PHASES = (HEALTHY, *FAULTS, STOPPED)
NOTICED = ("hangs", "fails", "slow", "garbage")
"""Faults that the collector sees: it gets an export request."""
CONTENT_BYTES = 16_000
ENVIRONMENT = {
    "PLATFORM_TRACE_SAMPLE_RATIO": "1",
    # With prompts and outputs a trace takes 32 kB, so that a queue without a bound would show.
    "PLATFORM_TRACE_CONTENT_BYTES": str(CONTENT_BYTES),
    "PLATFORM_METRICS_CACHE_SECONDS": "0",
}
_WAIT_SECONDS = 300.0
_POLL_SECONDS = 0.2


class Run:
    """Sends requests to one gateway whose traces go to one collector."""

    def __init__(self, gateway: Gateway, collector: Collector, key: str, model: str) -> None:
        self._gateway = gateway
        self._collector = collector
        self._headers = {"authorization": f"Bearer {key}"}
        self._body = {"model": model, "messages": [{"role": "user", "content": "x" * CONTENT_BYTES}]}

    async def phase(self, name: str, requests: int, per_second: float, *, until_lost: bool = False) -> Phase:
        """Send the requests during the fault at a constant rate, then end it and wait until traces arrive again.

        With `until_lost` the fault lasts until the exporter has counted a loss: it may get little CPU time.
        """
        with self._fault(name):
            await self._noticed(name)
            before = self.counts()
            statuses, seconds = await self._load(requests, per_second)
            if until_lost:
                await self._lost(before)
            during = self.counts().since(before)
            phase = Phase(name, statuses, seconds, during, self._memory("trace_exporter"), self._memory("platform_api"))
        await self._resumed()
        return phase

    def counts(self) -> Counts:
        """Return the counters now."""
        return Counts.read(self._gateway.metrics())

    @contextmanager
    def _fault(self, name: str) -> Iterator[None]:
        if name == HEALTHY:
            yield
        elif name == STOPPED:
            os.kill(self._pid("trace_exporter"), signal.SIGSTOP)
            try:
                yield
            finally:
                os.kill(self._pid("trace_exporter"), signal.SIGCONT)
        else:
            self._collector.switch(name)
            try:
                yield
            finally:
                self._collector.recover()

    async def _load(self, requests: int, per_second: float) -> tuple[frozenset[int], tuple[float, ...]]:
        async with httpx.AsyncClient(trust_env=False, timeout=_WAIT_SECONDS) as client, asyncio.TaskGroup() as group:
            began = time.monotonic()
            tasks = []
            for number in range(requests):
                await asyncio.sleep(began + number / per_second - time.monotonic())
                tasks.append(group.create_task(self._send(client)))
        return frozenset(task.result()[0] for task in tasks), tuple(task.result()[1] for task in tasks)

    async def _send(self, client: httpx.AsyncClient, **headers: str) -> tuple[int, float]:
        began = time.monotonic()
        response = await client.post(
            f"{self._gateway.base_url}/v1/chat/completions", json=self._body, headers={**self._headers, **headers}
        )
        return response.status_code, time.monotonic() - began

    async def settle(self, spans_per_trace: int) -> None:
        """Wait until each span is counted as exported, failed or dropped, or its whole trace as dropped."""

        async def settled() -> bool:
            counts = self.counts()
            return counts.settled_spans() == spans_per_trace * (counts.kept - counts.dropped_traces)

        await _until(settled)

    def spans_per_trace(self) -> int:
        """Return how many spans a complete trace at the collector has."""
        return max(Counter(span.trace_id for span in self._collector.received.spans).values())

    async def _noticed(self, name: str) -> None:
        """Send requests until an export meets the fault."""
        if name not in NOTICED:
            return
        exports = self._collector.received.requests
        async with httpx.AsyncClient(trust_env=False, timeout=_WAIT_SECONDS) as client:

            async def noticed() -> bool:
                await self._send(client)
                return self._collector.received.requests > exports

            await _until(noticed)

    async def _lost(self, before: Counts) -> None:
        async def lost() -> bool:
            during = self.counts().since(before)
            return during.spans["failed"] + during.spans["dropped"] > 0

        await _until(lost)

    async def _resumed(self) -> None:
        """Wait until the trace of a new request reaches the collector. The first ones may be dropped."""
        sent: set[str] = set()

        async with httpx.AsyncClient(trust_env=False, timeout=_WAIT_SECONDS) as client:

            async def arrived() -> bool:
                sent.add(trace := secrets.token_hex(16))
                await self._send(client, traceparent=f"00-{trace}-{'1' * 16}-01")
                return not sent.isdisjoint(span.trace_id for span in list(self._collector.received.spans))

            await _until(arrived)

    def _memory(self, module: str) -> int:
        pages = int(Path(f"/proc/{self._pid(module)}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _pid(self, module: str) -> int:
        return next(pid for pid in workers(self._gateway) if f"apps.{module}" in processes.command_line(pid))


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(_WAIT_SECONDS):
        while not await condition():
            await asyncio.sleep(_POLL_SECONDS)
