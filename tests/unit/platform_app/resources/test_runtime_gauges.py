"""The gauges that a worker reads from time to time, in a controlled order of samples."""

import asyncio
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import QueuePool

from platform_app.db.revisions import head_revision, known_revisions
from platform_app.observability import metrics
from platform_app.resources import runtime_gauges
from platform_app.resources.runtime_gauges import RuntimeGauges, resident_bytes


class Pool(QueuePool):
    """A pool with fixed counts, which opens nothing."""

    def __init__(self) -> None:
        super().__init__(lambda: None)  # type: ignore[arg-type]  # never called

    def checkedout(self) -> int:
        return 3

    def checkedin(self) -> int:
        return 2


class Providers:
    """The connections to providers, as the test sets them."""

    def __init__(self) -> None:
        self.in_use: Counter[str] = Counter()
        self.idle: Counter[str] = Counter()

    def connections_by_host(self) -> tuple[Counter[str], Counter[str]]:
        return self.in_use, self.idle


def make_gauges(providers: Providers) -> RuntimeGauges:
    engine: Any = SimpleNamespace(pool=Pool())
    anything: Any = SimpleNamespace()
    found: Any = providers
    return RuntimeGauges(anything, anything, (engine, engine), ["key"] * 7, found)


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


async def test_sample_shows_memory_pools_and_caches() -> None:
    providers = Providers()
    providers.in_use["api.one:443"] = 4
    waiting = [asyncio.create_task(asyncio.Event().wait()) for _ in range(3)]
    make_gauges(providers).sample()
    assert value("platform_event_loop_tasks") == len(asyncio.all_tasks()) >= len(waiting)
    for task in waiting:
        task.cancel()
    assert value("platform_key_cache_entries") == 7
    assert value("platform_database_pool_connections", state="in_use") == 3
    assert value("platform_database_pool_connections", state="idle") == 2
    assert value("platform_provider_pool_connections", host="api.one:443", state="in_use") == 4
    assert value("platform_provider_pool_connections", host="api.one:443", state="idle") == 0
    assert (value("platform_worker_resident_bytes") or 0) > 10_000_000


async def test_host_without_connections_falls_to_zero() -> None:
    """The series of a host stays, so a closed pool must not keep its last count."""
    providers = Providers()
    gauges = make_gauges(providers)
    providers.idle["api.two:443"] = 5
    gauges.sample()
    providers.idle.clear()
    gauges.sample()
    assert value("platform_provider_pool_connections", host="api.two:443", state="idle") == 0


@pytest.mark.parametrize(
    ("revision", "at_head"),
    [
        (head_revision(), 1), ("9999_from_a_newer_version", 1), (None, 0),
        *((revision, 0) for revision in sorted(known_revisions() - {head_revision()})),
    ],
)  # fmt: skip
async def test_schema_gauge_shows_an_outdated_schema(
    revision: str | None, at_head: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A newer schema is that of a rolling update, and not outdated."""

    async def current(_: object) -> str | None:
        return revision

    monkeypatch.setattr(runtime_gauges, "current_revision", current)
    await make_gauges(Providers()).sample_schema()
    assert value("platform_schema_at_head") == at_head


async def test_schema_gauge_keeps_its_value_while_database_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(_: object) -> str | None:
        raise OperationalError("select", {}, Exception("down"))

    gauges = make_gauges(Providers())
    metrics.SCHEMA_AT_HEAD.set(0)
    monkeypatch.setattr(runtime_gauges, "current_revision", fails)
    await gauges.sample_schema()
    assert value("platform_schema_at_head") == 0


async def test_certificate_that_is_not_used_any_more_never_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, float] = {"/old.pem": 1e9, "/kept.pem": 2e9}
    monkeypatch.setattr(runtime_gauges, "expiries", lambda *_: dict(found))
    gauges = make_gauges(Providers())
    await gauges.sample_certificates()
    assert value("platform_certificate_expiry_seconds", file="/old.pem") == 1e9
    del found["/old.pem"]
    await gauges.sample_certificates()
    assert value("platform_certificate_expiry_seconds", file="/old.pem") == float("inf")
    assert value("platform_certificate_expiry_seconds", file="/kept.pem") == 2e9


async def test_failing_gauge_does_not_end_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sample fails; the loop takes a second one."""
    gauges = make_gauges(Providers())
    samples: list[int] = []
    twice = asyncio.Event()

    def sample() -> None:
        samples.append(len(samples))
        if len(samples) == 1:
            raise RuntimeError("planted")
        twice.set()

    monkeypatch.setattr(runtime_gauges, "SAMPLE_SECONDS", 0)
    monkeypatch.setattr(gauges, "sample", sample)
    monkeypatch.setattr(gauges, "sample_certificates", _nothing)
    monkeypatch.setattr(gauges, "sample_schema", _nothing)
    task = asyncio.create_task(gauges.run())
    await asyncio.wait_for(twice.wait(), 300)
    assert not task.done()
    task.cancel()


async def _nothing() -> None:
    """Stand in for a sample that needs files or a database."""


def test_resident_bytes_are_unknown_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_gauges, "_STATM", tmp_path / "gone")
    assert resident_bytes() is None
