"""The clients of a run: what they send, and what each of them saw."""

import asyncio
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp

TIMEOUT_SECONDS = 60.0
WHOLE = "200"


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as its client saw it."""

    request_id: str
    client: str
    fault: str
    result: str
    """`200`; or status and error code; `stream` and the code of its error event; or the name of the client's error."""
    at: float

    @property
    def must_be_recorded(self) -> bool:
        """Whether the client received a whole response, good or not. If the ledger refuses a request, it is because the
        request cannot be recorded."""
        return self.is_whole and self.result != "503 ledger_unavailable"

    @property
    def is_whole(self) -> bool:
        """Whether the client received a whole response, good or not."""
        return self.result[0].isdigit() or self.result.startswith("stream ")


@dataclass(frozen=True, slots=True)
class Client:
    """A client, which sends one request after another to all gateways in turn."""

    name: str
    key: str
    body: dict[str, Any]
    pause: float = 0.05


@dataclass
class Load:
    """Sends from `__enter__` to `__exit__`, from a thread with its own event loop."""

    base_urls: Sequence[str]
    clients: Sequence[Client]
    fault: str = "none"
    """What the requests that start now are counted under."""
    seen: list[Seen] = field(default_factory=list)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._run()], name="load")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        assert self._thread is not None
        self._thread.join()
        self._loop.close()

    def of_fault(self, fault: str) -> list[Seen]:
        """Return the requests that started during a fault or its recovery."""
        return [each for each in list(self.seen) if each.fault == fault]

    def all_served_since(self, moment: float) -> bool:
        """Return whether each client that always sends had good responses since the moment, and no other."""
        since = [each for each in list(self.seen) if each.at >= moment]
        results = {
            client.name: {each.result for each in since if each.client == client.name} for client in self.clients
        }
        return all(found == {WHOLE} for found in results.values())

    def send_also(self, client: Client) -> Callable[[], None]:
        """Start another client. Return the function that stops it after its current request."""
        stopped = threading.Event()
        ended = asyncio.run_coroutine_threadsafe(self._client(client, stopped), self._loop)

        def stop() -> None:
            stopped.set()
            ended.result(2 * TIMEOUT_SECONDS)

        return stop

    async def _run(self) -> None:
        await asyncio.gather(*(self._client(client, self._stopped) for client in self.clients))

    async def _client(self, client: Client, stopped: threading.Event) -> None:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for number in itertools.count():
                if stopped.is_set() or self._stopped.is_set():
                    return
                request_id = f"{client.name}-{number}"
                fault = self.fault
                result = await self._request(session, client, request_id, self.base_urls[number % len(self.base_urls)])
                self.seen.append(Seen(request_id, client.name, fault, result, time.monotonic()))
                await asyncio.sleep(client.pause)

    async def _request(self, session: aiohttp.ClientSession, client: Client, request_id: str, base_url: str) -> str:
        headers = {"X-Request-ID": request_id, "Authorization": f"Bearer {client.key}"}
        try:
            async with session.post(f"{base_url}/v1/platform/chat", headers=headers, json=client.body) as response:
                text = await response.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__
        if response.status != 200:
            return f"{response.status} {json.loads(text)['error']['code']}"
        if client.body.get("stream"):
            *_, last = [line for line in text.splitlines() if line.startswith("data: ")]
            failed = json.loads(last.removeprefix("data: ")).get("error")
            return f"stream {failed['code']}" if failed else WHOLE
        return WHOLE


def failures(seen: Sequence[Seen]) -> Counter[str]:
    """Count the results that are not good, without refusals by the limit."""
    return Counter(each.result for each in seen if each.result not in (WHOLE, "429 rate_limited"))
