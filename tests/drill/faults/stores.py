"""Faults of the stores: Redis, PostgreSQL, and the disk of the spool."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.drill.faults.fault import Delivery, Expected, Fault
from tests.drill.runbook import Cause
from tests.drill.stage import Stage
from tests.drill.traffic import Client
from tests.support.servers.full_disk import full_disk

_NEWCOMERS_PER_SECOND = 2.0


@contextmanager
def _redis_frozen(stage: Stage) -> Iterator[None]:
    stage.valkey.pause()
    try:
        yield
    finally:
        stage.valkey.resume()


@contextmanager
def _postgres_stopped(stage: Stage) -> Iterator[None]:
    """Also let a client send requests whose key no worker has verified."""
    stage.postgres.stop()
    newcomer = Client("newcomer", stage.spare_key, "/v1/platform/chat", {"prompt": "Hello"}, _NEWCOMERS_PER_SECOND)
    stop = stage.traffic.send_with(newcomer)
    try:
        yield
    finally:
        stop()
        stage.postgres.start()


def _disk_full(stage: Stage) -> AbstractContextManager[None]:
    return full_disk(stage.workers())


STORES = (
    Fault(
        "redis-frozen",
        "Redis is frozen: its connections stay open and it does not respond",
        _redis_frozen,
        (
            Expected("LimiterDegraded", Cause({"__name__": "platform_limiter_degraded"}, at_least=1)),
            Expected(
                "KeyListenerDisconnected",
                Cause({"__name__": "platform_key_listener_connected"}, at_least=0, at_most=0),
                delivery=Delivery.INHIBITED,
            ),
        ),
    ),
    Fault(
        "postgres-stopped",
        "PostgreSQL is stopped, and a client uses a key that was not verified before",
        _postgres_stopped,
        (
            Expected("AuthStale", Cause({"outcome": "stale"}), delivery=Delivery.EITHER),
            Expected("AuthUnavailable", Cause({"outcome": "unavailable"})),
            Expected("LedgerBehind", Cause(), delivery=Delivery.INHIBITED),
        ),
        frozenset({"GatewayErrorBudgetBurn"}),
    ),
    Fault(
        "disk-full",
        "The disk of the spool refuses every write",
        _disk_full,
        (
            Expected("LedgerLosing", Cause()),
            Expected("GatewayErrorBudgetBurn", Cause(), {"window": "1h"}),
        ),
        frozenset({"LogLinesDropped", "GatewayErrorBudgetBurn"}),
    ),
)
