"""Work that goes on after its client has left: bounded, counted as requests are, and waited for at the end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from apps.platform_api.server.state import ServerState
from platform_app.observability import metrics

_SHARE = 4
_CANCELLED_SECONDS = 1.0
"""For cancelled work to end its call and free its key before the connections for that are closed."""


class DetachedWork:
    """The tasks of requests with an Idempotency-Key. Each is started here; one whose client leaves may go on."""

    def __init__(self, state: ServerState, concurrent_requests: int) -> None:
        """At most a quarter of `concurrent_requests` go on at once: abandoned work must not use up a process."""
        self._state = state
        self._most = max(1, concurrent_requests // _SHARE)
        self._going_on = 0

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run it in a task, which the server waits for when it stops, and cancels after the grace period."""
        task = asyncio.create_task(work, name="idempotent-work")
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return task

    def go_on(self, task: "asyncio.Task[None]", release: Callable[[], Callable[[], None]]) -> bool:
        """Let this task go on without its client, and count it as a request in flight until it ends. If it may go on,
        `release` is called, which returns what gives its request's body back.

        Returns:
            False where too many go on already.
        """
        if self._going_on >= self._most:
            return False
        give_back = release()
        self._going_on += 1
        self._state.in_flight += 1
        metrics.IDEMPOTENCY_DETACHED.inc()

        def ended(_: "asyncio.Task[None]") -> None:
            self._going_on -= 1
            self._state.in_flight -= 1
            metrics.IDEMPOTENCY_DETACHED.dec()
            give_back()

        task.add_done_callback(ended)
        return True

    async def aclose(self, grace_seconds: float) -> None:
        """Wait for what is left, and cancel it after the grace period. Our own server has done both by now."""
        for seconds in (grace_seconds, _CANCELLED_SECONDS):
            if left := {task for task in self._state.tasks if task.get_name() == "idempotent-work"}:
                _, late = await asyncio.wait(left, timeout=seconds)
                for task in late:
                    task.cancel()
