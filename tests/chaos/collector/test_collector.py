"""Collector faults under load in their short form, and only what must hold on any machine."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.chaos.collector.collector import FAULTS, Collector
from tests.chaos.collector.measured import Phase, table
from tests.chaos.collector.run import ENVIRONMENT, HEALTHY, PHASES, STOPPED, Run
from tests.conftest import GENEROUS, Platform
from tests.support.gateway.process import Gateway, write_config

pytestmark = pytest.mark.proof

REQUESTS, PER_SECOND = 45, 30.0
QUEUE, BATCH = 40, 10
"""Spans that wait in the exporter, and spans of one export."""
PIPE_TRACES = 1024 * 1024 // (2 * 14_000)
"""More traces than the pipe of a worker holds."""
NEVER = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600"}
"""The exporter waits for its first failed export until the collector recovers."""


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
async def phases(
    platform: Platform, simulator: ProviderSimulator, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[dict[str, Phase]]:
    """Every phase in turn on one gateway. Ends only if each lost span is counted."""
    directory: Path = tmp_path_factory.mktemp("collector")
    config = write_config(directory / "platform.yaml", simulator.base_url, rate_limits=GENEROUS)
    environment = {
        **platform.environment,
        **ENVIRONMENT,
        **NEVER,
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_DEFAULT_MODEL": "sim-ok",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_BSP_MAX_QUEUE_SIZE": str(QUEUE),
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(BATCH),
    }
    with Gateway(environment, directory) as gateway:
        run = Run(gateway, collector, platform.key("platform:chat"), "sim-ok")
        seen: dict[str, Phase] = {}
        for name in PHASES:
            seen[name] = await run.phase(name, REQUESTS, PER_SECOND, until_lost=name in FAULTS)
        await run.settle(run.spans_per_trace())
        yield seen


def test_each_request_succeeds_in_each_phase(phases: dict[str, Phase], show_figure: Callable[[str], None]) -> None:
    show_figure("\n" + table(phases.values()))
    assert {name: phase.statuses for name, phase in phases.items()} == {name: {200} for name in PHASES}


def test_requests_end_while_collector_has_an_export_open(phases: dict[str, Phase]) -> None:
    """So no request waits for the exporter, and the exporter keeps no more than its queue and one batch."""
    during = phases["hangs"].during
    assert during.spans["exported"] + during.spans["failed"] <= BATCH
    assert during.spans["dropped"] > 0


def test_fault_changes_median_latency_within_noise(phases: dict[str, Phase]) -> None:
    """An export that fails takes up to 600 s here; a factor and a second say nothing about the machine's speed."""
    slowest = 10 * phases[HEALTHY].median + 1.0
    assert {name: phase.median for name, phase in phases.items() if phase.median > slowest} == {}


def test_full_pipe_drops_traces_and_counts_them(phases: dict[str, Phase]) -> None:
    """The worker's memory is the pipe: what does not fit is dropped."""
    during = phases[STOPPED].during
    assert during.dropped_traces >= REQUESTS - PIPE_TRACES
    assert during.settled_spans() <= BATCH
