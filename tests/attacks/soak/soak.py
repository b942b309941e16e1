"""The turns of a soak, one after another, and the verdict."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.attacks.soak.hostile import TURNS
from tests.attacks.soak.stack import Stack, running_stack
from tests.attacks.soak.watch import Watched, memory_mb, percentile, watching

MEMORY_MB = 60.0
"""A worker's memory may exceed its idle value by this much during a turn, and by half of it after the turn."""
LIVEZ_MS = 100.0
TIMES_QUIET = 3.0
_REST_SECONDS = 5.0


@dataclass(slots=True)
class Soak:
    """What was measured: quiet, in each turn, and after all of them."""

    quiet: Watched
    quiet_mb: float
    turns: dict[str, Watched] = field(default_factory=dict)
    final_mb: float = 0.0

    def total(self) -> Watched:
        """All turns together."""
        total = Watched()
        for watched in self.turns.values():
            total.add(watched)
        return total

    def robust_faults(self) -> list[str]:
        """What must hold on any machine: no error for the legitimate client, and bounded memory."""
        total = self.total()
        faults = [f"{name}: {error}" for name, watched in self.turns.items() for error in watched.errors[:3]]
        if max(total.memory_mb) > self.quiet_mb + MEMORY_MB:
            faults.append(f"{max(total.memory_mb):.0f} MB at most, {self.quiet_mb:.0f} MB quiet")
        if self.final_mb > self.quiet_mb + MEMORY_MB / 2:
            faults.append(f"{self.final_mb:.0f} MB in the end, {self.quiet_mb:.0f} MB quiet")
        return faults

    def faults(self) -> list[str]:
        """All demands, those on time included: for a machine that does nothing else."""
        faults = self.robust_faults()
        total = self.total()
        if max(total.probe_ms) > LIVEZ_MS:
            faults.append(f"/livez took {max(total.probe_ms):.0f} ms at most")
        quiet, hostile = percentile(self.quiet.request_ms, 0.99), percentile(total.request_ms, 0.99)
        if hostile > TIMES_QUIET * quiet:
            faults.append(f"p99 of the legitimate client is {hostile:.0f} ms, quiet it was {quiet:.0f} ms")
        return faults

    def table(self) -> str:
        """One line for each turn."""
        lines = [f"{'turn':<20}{'MB':>8}{'livez p50':>11}{'p99':>8}{'max':>8}{'client p50':>12}{'p99':>8}{'errors':>8}"]
        lines += [_line(name, watched) for name, watched in (("quiet", self.quiet), *self.turns.items())]
        lines += [_line("all turns", self.total()), f"{'in the end':<20}{self.final_mb:>8.0f}"]
        return "\n".join(lines)


def _line(name: str, watched: Watched) -> str:
    probe, client = watched.probe_ms, watched.request_ms
    return (
        f"{name:<20}{max(watched.memory_mb):>8.0f}"
        f"{percentile(probe, 0.5):>11.1f}{percentile(probe, 0.99):>8.1f}{max(probe):>8.1f}"
        f"{percentile(client, 0.5):>12.1f}{percentile(client, 0.99):>8.1f}{len(watched.errors):>8}"
    )


def run_soak(seconds: float, tell: Callable[[str], None]) -> Soak:
    """Start a gateway, let it be attacked for so many seconds in all, and return what was measured."""
    each = seconds / len(TURNS)
    with tempfile.TemporaryDirectory() as directory, running_stack(Path(directory)) as stack:
        with watching(stack):
            time.sleep(_REST_SECONDS)  # caches fill
        with watching(stack) as quiet:
            time.sleep(max(_REST_SECONDS, min(30.0, each)))
        soak = Soak(quiet, max(quiet.memory_mb))
        for turn in TURNS:
            with watching(stack) as watched:
                _attack(stack, turn, each)
            soak.turns[turn] = watched
            tell(_line(turn, watched))
        time.sleep(_REST_SECONDS)
        soak.final_mb = memory_mb(stack.worker)
    return soak


def _attack(stack: Stack, turn: str, seconds: float) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.attacks.soak.hostile",
        turn,
        str(stack.gateway.port),
        stack.key,
        str(seconds),
    ]
    # A real attacker has its own machine: this one leaves the processor to the gateway.
    subprocess.run(["nice", "-n", "15", *command], check=True, timeout=seconds + 600)
