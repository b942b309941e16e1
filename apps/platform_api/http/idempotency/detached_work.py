"""Work that continues after its client has disconnected: bounded, counted as a request, and awaited at shutdown."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from apps.platform_api.server.state import ServerState
from platform_app.observability import metrics

_SHARE = 4
_CANCELLED_SECONDS = 1.0
"""Time for cancelled work to end its call and free its key, before the connections that it needs are closed."""


class DetachedWork:
    """Runs the work of requests with an Idempotency-Key. A task whose client disconnects may continue here."""

    def __init__(self, state: ServerState, concurrent_requests: int) -> None:
        """At most a quarter of `concurrent_requests` continue at once, so that work without clients cannot fill the
        process."""
        self._state = state
        self._most = max(1, concurrent_requests // _SHARE)
        self._detached = 0

    def start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run the work in a task. At shutdown the server awaits it, and cancels it after the grace period."""
        task = asyncio.create_task(work, name="idempotent-work")
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        return task

    def detach(self, task: "asyncio.Task[None]", keep_body: Callable[[], Callable[[], None]]) -> bool:
        """Let the task continue without its client, and count it as a request in flight until it ends.

        Args:
            task: the task.
            keep_body: called if the task may continue; it keeps the request's body counted, and returns the function
                that releases it.

        Returns:
            False if too many tasks continue already.
        """
        if self._detached >= self._most:
            return False
        release_body = keep_body()
        self._detached += 1
        self._state.in_flight += 1
        metrics.IDEMPOTENCY_DETACHED.inc()

        def ended(_: "asyncio.Task[None]") -> None:
            self._detached -= 1
            self._state.in_flight -= 1
            metrics.IDEMPOTENCY_DETACHED.dec()
            release_body()

        task.add_done_callback(ended)
        return True

    async def aclose(self, grace_seconds: float) -> None:
        """Await the remaining tasks, and cancel them after the grace period. The gateway's own server has done both by
        now; other servers have not."""
        for seconds in (grace_seconds, _CANCELLED_SECONDS):
            if left := {task for task in self._state.tasks if task.get_name() == "idempotent-work"}:
                _, late = await asyncio.wait(left, timeout=seconds)
                for task in late:
                    task.cancel()
