"""What is broken, and how it is repaired."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass

from tests.chaos.outages.stage import Stage
from tests.drill.faults.fault import repeatedly
from tests.support.servers.full_disk import full_disk

_SLOW_SECONDS = 0.03


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault lasts as long as its context manager."""

    name: str
    title: str
    inject: Callable[[Stage], AbstractContextManager[None]]
    cuts: bool = False
    """Whether clients may lose connections."""
    times_limit: int = 1
    """How many times its limit a caller may get: once more if each process counts by itself, and once more if the
    counters are lost (docs/operations.md, "Redis or Valkey")."""


@contextmanager
def _postgres_killed(stage: Stage) -> Iterator[None]:
    stage.postgres.stop()
    try:
        yield
    finally:
        stage.postgres.start()


@contextmanager
def _postgres_frozen(stage: Stage) -> Iterator[None]:
    stage.postgres.pause()
    try:
        yield
    finally:
        stage.postgres.resume()


@contextmanager
def _valkey_killed(stage: Stage) -> Iterator[None]:
    stage.valkey.stop()
    try:
        yield
    finally:
        stage.valkey.start()


@contextmanager
def _valkey_frozen(stage: Stage) -> Iterator[None]:
    stage.valkey.pause()
    try:
        yield
    finally:
        stage.valkey.resume()


@contextmanager
def _valkey_slow(stage: Stage) -> Iterator[None]:
    """Frozen for 30 ms, again and again: below the timeout."""

    def pause() -> None:
        stage.valkey.pause()
        time.sleep(_SLOW_SECONDS)
        stage.valkey.resume()

    with repeatedly(pause, _SLOW_SECONDS):
        yield


@contextmanager
def _openbao_killed(stage: Stage) -> Iterator[None]:
    """It starts without its secrets, which are written again a moment later."""
    stage.openbao.stop()
    try:
        yield
    finally:
        stage.openbao.start()
        stage.put_secrets()


@contextmanager
def _openbao_frozen(stage: Stage) -> Iterator[None]:
    stage.openbao.pause()
    try:
        yield
    finally:
        stage.openbao.resume()


def _provider_fault(fault: str) -> Callable[[Stage], AbstractContextManager[None]]:
    @contextmanager
    def inject(stage: Stage) -> Iterator[None]:
        stage.providers["north"].switch(fault)
        try:
            yield
        finally:
            stage.providers["north"].clear()

    return inject


def _workers_hit(number: signal.Signals) -> Callable[[Stage], AbstractContextManager[None]]:
    """Hit one worker of each gateway."""

    @contextmanager
    def inject(stage: Stage) -> Iterator[None]:
        found = stage.workers()
        for pid in (found[0], found[-1]):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        yield

    return inject


def _disk_full(stage: Stage) -> AbstractContextManager[None]:
    """For the workers of the first gateway."""
    return full_disk(stage.workers()[: len(stage.workers()) // 2])


FAULTS = {
    fault.name: fault
    for fault in (
        Fault("postgres-killed", "PostgreSQL is stopped", _postgres_killed),
        Fault("postgres-frozen", "PostgreSQL is frozen", _postgres_frozen),
        Fault("valkey-killed", "Valkey is stopped, and starts without its data", _valkey_killed, times_limit=3),
        Fault("valkey-frozen", "Valkey is frozen", _valkey_frozen, times_limit=2),
        Fault("valkey-slow", "Valkey stops for 30 ms at a time", _valkey_slow, times_limit=2),
        Fault("openbao-killed", "OpenBao is stopped, and starts without its data", _openbao_killed),
        Fault("openbao-frozen", "OpenBao is frozen", _openbao_frozen),
        Fault("provider-failing", "A provider responds 500", _provider_fault("server-error")),
        Fault("provider-dropping", "A provider closes each connection", _provider_fault("drop")),
        Fault("provider-hanging", "A provider does not respond", _provider_fault("hang")),
        Fault("provider-slow", "A provider responds 2 s late", _provider_fault("delay")),
        Fault("workers-killed", "A worker of each gateway is killed", _workers_hit(signal.SIGKILL), cuts=True),
        Fault("workers-frozen", "A worker of each gateway is frozen", _workers_hit(signal.SIGSTOP), cuts=True),
        Fault("disk-full", "The spool of one gateway refuses every write", _disk_full),
    )
}
