"""The steps of an operation, and how they run."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.release_lane.errors import LaneError, UsageError

STEP_ERRORS = (LaneError, UsageError, OSError, ValueError)
"""What a step raises if it fails, also through a file that is missing, not readable or not UTF-8."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One step. It can be repeated: a step whose work is already done finds that out and returns quickly."""

    name: str
    does: str
    """What it will do, in one sentence; the dry run prints it."""
    run: Callable[[], str]
    """Returns what was done. Raises LaneError."""
    remedy: str
    """What the operator can do if it fails."""


class StepFailed(Exception):
    """A step failed; the steps after it did not run."""

    def __init__(self, step: Step, error: LaneError) -> None:
        super().__init__(f"{step.name}: {error.what}")
        self.step = step
        self.what = error.what
        self.remedy = error.remedy or step.remedy


def run_steps(steps: Sequence[Step], say: Say, note: Callable[[str], None]) -> None:
    """Run the steps in turn. `note` records the name of each step before it begins.

    Raises:
        StepFailed: with the first step that failed.
    """
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.name}: {step.does}")
        started = time.monotonic()
        try:
            note(step.name)
            done = step.run()
        except STEP_ERRORS as raised:
            error = LaneError.of(raised)
            say(f"      FAILED: {error.what}")
            failed = StepFailed(step, error)
            say(f"      To do: {failed.remedy}")
            raise failed from None
        say(f"      {done} ({time.monotonic() - started:.1f} s)")


def show_steps(steps: Sequence[Step], say: Say) -> None:
    """Print the steps without running them."""
    for number, step in enumerate(steps, 1):
        say(f"[{number}/{len(steps)}] {step.name}: {step.does}")
        say(f"      If it fails: {step.remedy}")
