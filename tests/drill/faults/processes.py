"""Faults of the gateway's processes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.drill.faults.fault import Delivery, Expected, Fault, repeatedly
from tests.drill.runbook import Cause
from tests.drill.stage import BLOCK_SIGNAL, WORKERS, Stage

_VICTIMS = 3
"""Workers that are killed, or that hang, one after another. The alert needs two within 30 minutes."""


def _hit_workers(stage: Stage, number: signal.Signals, victims: int) -> Callable[[], None]:
    """Return an action that sends the signal to one worker after another, each time when all of them work."""
    hit: list[int] = []

    def action() -> None:
        workers = stage.workers()
        if len(hit) == victims or set(hit) & set(workers):
            return  # a worker that hangs is replaced only after PLATFORM_WORKER_TIMEOUT_SECONDS
        if len(workers) == WORKERS and all(_is_ready(stage, pid) for pid in workers):
            hit.append(workers[0])
            _send(workers[0], number)

    return action


def _is_ready(stage: Stage, pid: int) -> bool:
    lines = stage.gateway.log_file.read_text(errors="replace").splitlines()
    return any(json.loads(line)["pid"] == pid for line in lines if '"worker_ready"' in line)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@contextmanager
def _workers_killed(stage: Stage) -> Iterator[None]:
    with repeatedly(_hit_workers(stage, signal.SIGKILL, _VICTIMS), 0.5):
        yield


@contextmanager
def _workers_hung(stage: Stage) -> Iterator[None]:
    with repeatedly(_hit_workers(stage, signal.SIGSTOP, _VICTIMS), 0.5):
        yield
    for pid in stage.workers():
        _send(pid, signal.SIGCONT)


@contextmanager
def _all_workers_killed(stage: Stage) -> Iterator[None]:
    def kill_all() -> None:
        for pid in stage.workers():
            if _is_ready(stage, pid):  # the parent ends if none ever becomes ready
                _send(pid, signal.SIGKILL)

    with repeatedly(kill_all, 0.2):
        yield


@contextmanager
def _loop_blocked(stage: Stage) -> Iterator[None]:
    """The signal runs a blocking call on the event loop's thread; see stage.py."""

    def block() -> None:
        for pid in stage.workers():
            if _is_ready(stage, pid):
                _send(pid, BLOCK_SIGNAL)

    with repeatedly(block, 1.0):
        yield


@contextmanager
def _gateway_stopped(stage: Stage) -> Iterator[None]:
    stage.gateway.stop()
    try:
        yield
    finally:
        stage.gateway.start()


_RESTARTS = frozenset({"LedgerCallsInterrupted", "GatewayWorkersRestarting", "GatewayWithoutWorkers", "ModelFailing"})
"""GatewayWithoutWorkers, because the windows are scaled and the start of a worker takes the same time as in production.
ModelFailing, because clients lose requests."""

PROCESSES = (
    Fault(
        "loop-blocked",
        "A function blocks the event loop of each worker for 0.6 s, again and again",
        _loop_blocked,
        (Expected("EventLoopLagHigh", Cause()),),
        frozenset({"GatewayOverheadHigh", "GatewayOverheadBudgetBurn"}),
    ),
    Fault(
        "worker-killed",
        f"A worker is killed with SIGKILL, {_VICTIMS} times",
        _workers_killed,
        (Expected("GatewayWorkersRestarting", Cause({"reason": "died"}, at_least=1), {"reason": "died"}),),
        _RESTARTS,
    ),
    Fault(
        "worker-hung",
        f"A worker is stopped with SIGSTOP, {_VICTIMS} times",
        _workers_hung,
        (Expected("GatewayWorkersRestarting", Cause({"reason": "hung"}, at_least=1), {"reason": "hung"}),),
        _RESTARTS,
    ),
    Fault(
        "no-workers",
        "Every worker is killed as soon as it is ready",
        _all_workers_killed,
        (Expected("GatewayWithoutWorkers", Cause()),),
        _RESTARTS | {"GatewayErrorBudgetBurn"},
    ),
    Fault(
        "gateway-down",
        "The only instance of the gateway is stopped",
        _gateway_stopped,
        (
            Expected("GatewayDown", Cause({"__name__": "up"}, at_least=0, at_most=0)),
            Expected("GatewayInstanceDown", Cause(at_least=0), delivery=Delivery.INHIBITED),
        ),
        _RESTARTS | {"GatewayErrorBudgetBurn"},
    ),
)
