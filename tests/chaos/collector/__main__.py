"""`python -m tests.chaos.collector`: a minute of each collector fault under a light load; prints a table."""

import argparse
import asyncio
import sys

from tests.chaos.collector.collector import Collector
from tests.chaos.collector.measured import Phase, table
from tests.chaos.collector.run import ENVIRONMENT, HEALTHY, PHASES, Run
from tests.chaos.stack import running_stack


def main() -> int:
    """Return 1 if a request failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.collector", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each phase")
    parser.add_argument("--per-second", type=float, default=30.0, help="requests each second")
    options = parser.parse_args()
    with Collector() as collector:
        variables = {**ENVIRONMENT, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        with running_stack(**variables) as (gateway, platform, _):
            run = Run(gateway, collector, platform.key("platform:chat"), "assistant")
            phases = asyncio.run(_phases(run, options.seconds, options.per_second))
    _show(table(phases))
    return 0 if all(phase.statuses == {200} for phase in phases) else 1


async def _phases(run: Run, seconds: float, per_second: float) -> list[Phase]:
    await run.phase("warm-up", round(10 * per_second), per_second)
    phases: list[Phase] = []
    for name in (*PHASES, HEALTHY):
        phases.append(await run.phase(name, round(seconds * per_second), per_second))
        _show(table(phases[-1:]).splitlines()[-1])
    return phases


def _show(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a program for people


if __name__ == "__main__":
    sys.exit(main())
