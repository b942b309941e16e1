"""Real processes on a real server: races, and an adversary that knows where windows begin."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from apps.platform_cli.embedded.valkey import EmbeddedValkey
from tests.support.limits.limiter import SECOND
from tests.support.limits.limiter_process import EDGE_LIMIT, EDGE_WINDOW, LIMIT, MAKERS
from tests.support.servers.valkey import own_server

PROCESSES, RACERS, ROUNDS = 4, 50, 20
ADVERSARIAL_SECONDS = float(os.environ.get("TEST_ADVERSARIAL_SECONDS", "12"))
"""180 for the long run."""


async def run(*arguments: str | int | float) -> dict[str, list[int]]:
    """One process, to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.limits.limiter_process",
        *map(str, arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, list[int]] = json.loads(output)
    return found


async def test_racing_processes_admit_exactly_the_limit(valkey: EmbeddedValkey) -> None:
    """Four processes; requests, tokens, costs and concurrent requests alike."""
    found = await asyncio.gather(*(run("race", valkey.url, PROCESSES, RACERS, ROUNDS) for _ in range(PROCESSES)))
    for kind in MAKERS:
        totals = [sum(process[kind][number] for process in found) for number in range(ROUNDS)]
        assert totals == [LIMIT] * ROUNDS, kind


@pytest.mark.proof
@pytest.mark.timeout(5 * ADVERSARIAL_SECONDS + 300)
async def test_adversary_never_exceeds_limit_in_any_window(show_figure: Callable[[str], None]) -> None:
    """Two processes that burst around edges, beside smooth traffic at 98 % of another limit, which loses nothing."""
    with own_server() as server:
        first, second, smooth = await asyncio.gather(
            run("attack", server.url, ADVERSARIAL_SECONDS, 1),
            run("attack", server.url, ADVERSARIAL_SECONDS, 2),
            run("flow", server.url, ADVERSARIAL_SECONDS),
        )
    admitted = sorted(first["admitted"] + second["admitted"])
    fullest = _most_within(admitted, EDGE_WINDOW * SECOND)
    figures: dict[str, Any] = {
        "seconds": ADVERSARIAL_SECONDS, "asked": first["asked"][0] + second["asked"][0], "admitted": len(admitted),
        "most in a window": fullest, "smooth asked": smooth["asked"][0], "smooth denied": smooth["denied"][0],
    }  # fmt: skip
    show_figure(str(figures))
    assert fullest == EDGE_LIMIT
    assert len(admitted) >= 0.7 * EDGE_LIMIT / EDGE_WINDOW * (ADVERSARIAL_SECONDS - 1), "it was hardly tried"
    assert smooth["denied"] == [0]
    assert smooth["asked"][0] > 100 * ADVERSARIAL_SECONDS


def _most_within(times: list[int], window: int) -> int:
    """The largest number of times in any half-open interval of that length."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most
