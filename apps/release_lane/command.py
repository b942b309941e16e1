"""`deploy/release` and `deploy/rollback`: options, lock, operation, exit code.

Exit codes: 0 done, 1 a step failed, 2 wrong usage or settings (nothing was changed), 3 another operation runs,
130 interrupted with Ctrl-C.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from apps.release_lane.commands import Commands, SystemCommands
from apps.release_lane.environment_file import read_environment
from apps.release_lane.errors import LaneError, LockedError, UsageError
from apps.release_lane.host.addresses import Addresses
from apps.release_lane.host.builder import Builder
from apps.release_lane.host.front import make_front
from apps.release_lane.host.operations import Host
from apps.release_lane.host.probes import HttpProbes, Probes
from apps.release_lane.host.runners.process import ProcessRunner
from apps.release_lane.host.runners.systemd import SystemdRunner
from apps.release_lane.host.slots import Slots
from apps.release_lane.journal import Action, Journal, Operation, now, who
from apps.release_lane.kubernetes.cluster import Cluster
from apps.release_lane.output import complain, show
from apps.release_lane.settings import DEFAULT_FILE, LaneSettings, read_settings
from apps.release_lane.steps import STEP_ERRORS, Say, Step, StepFailed, run_steps, show_steps

DONE, FAILED, USAGE, LOCKED, INTERRUPTED = 0, 1, 2, 3, 130
_AFTERWARDS = ("retire", "prune")
"""Steps after which traffic stays on the new release, whether they fail or not."""


class Target(Protocol):
    """A host or a cluster: which steps an operation has there."""

    def resolve(self, commit: str) -> str:
        """Return the full SHA of a commit. Raises UsageError."""

    def serving(self) -> str | None:
        """Return the release that was rolled out last, or None."""

    def rollback_target(self, wanted: str | None, interrupted: Operation | None) -> str:
        """Return the release to roll back to. Raises UsageError."""

    def steps(self, operation: Operation) -> list[Step]:
        """Return the steps."""

    def undo(self, operation: Operation) -> Callable[[], str] | None:
        """Return what takes a failed release back, as things stand now; None if nothing served before."""


def main(
    arguments: Sequence[str], say: Say = show, commands: Commands | None = None, probes: Probes | None = None
) -> int:
    """Run an operation. Return the exit code. Tests replace the programs and probes."""
    options = _parser().parse_args(arguments)
    try:
        return _operate(options, say, commands or SystemCommands(), probes)
    except UsageError as error:
        complain(str(error))
        return USAGE
    except LockedError as error:
        complain(f"{error}. Wait for it to end.")
        return LOCKED
    except (LaneError, OSError) as error:
        failure = LaneError.of(error)
        complain("\n".join(filter(None, [failure.what, failure.remedy])))
        return FAILED
    except KeyboardInterrupt:
        complain("Interrupted. If a step had begun, repeat the command: it continues; or run `deploy/rollback`.")
        return INTERRUPTED


def _operate(options: argparse.Namespace, say: Say, commands: Commands, probes: Probes | None) -> int:
    settings = read_settings(options.config)
    journal = Journal(settings.root / "lane")
    if options.action == "log":
        return _show_log(journal, say)
    target = make_target(settings, commands, probes)
    if options.dry_run:
        return _dry_run(options, journal, target, say)
    with journal.lock():
        return _run(options, journal, target, say)


def make_target(settings: LaneSettings, commands: Commands, probes: Probes | None) -> Target:
    """Return the host or cluster that lane.toml describes."""
    if settings.kind == "kubernetes":
        return Cluster(settings, commands)
    slots = Slots(settings)
    runner = (
        SystemdRunner(settings.unit, commands)
        if settings.runner == "systemd"
        else ProcessRunner(slots, lambda: read_environment(settings.environment_file))
    )
    addresses = Addresses(settings)
    front = make_front(settings.front, commands, addresses)
    builder, probes = Builder(settings, commands), probes or HttpProbes(addresses)
    return HostTarget(Host(settings, commands, builder, slots, runner, front, probes, addresses))


class HostTarget:
    """A plain host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def resolve(self, commit: str) -> str:
        """Return the full SHA of a commit. Raises UsageError."""
        return self._host.builder.resolve(commit)

    def serving(self) -> str | None:
        """Return the release that was rolled out completely, or None."""
        return self._host.slots.read().release

    def rollback_target(self, wanted: str | None, interrupted: Operation | None) -> str:
        """Return the release to roll back to; of an interrupted release the one before it. Raises UsageError."""
        active = self._host.slots.read()
        if wanted is None and interrupted is not None:
            if interrupted.action == "rollback":
                wanted = interrupted.to
            elif interrupted.action == "release" and active.release != interrupted.to:
                wanted = interrupted.previous
        return self._host.check_rollback(active, wanted and self.resolve(wanted))

    def steps(self, operation: Operation) -> list[Step]:
        """Return the steps."""
        steps = {
            "release": self._host.release_steps,
            "rollback": self._host.rollback_steps,
            "contract": self._host.contract_steps,
        }
        return steps[operation.action](operation.to)

    def undo(self, operation: Operation) -> Callable[[], str] | None:
        """Return what takes a failed release back to the one that was rolled out completely."""
        release = self._host.slots.read().release
        return (lambda: self._host.undo(release)) if release is not None else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="deploy", description="Release a commit, or return to the release before.")
    parser.set_defaults(commit=None, dry_run=False)
    default = Path(os.environ.get("FLOWBIZ_LANE_CONFIG") or DEFAULT_FILE)
    parser.add_argument("--config", type=Path, default=default, help=f"default: {DEFAULT_FILE}")
    # After the action too; without a default there, which would replace what was given before the action.
    config = argparse.ArgumentParser(add_help=False)
    config.add_argument("--config", type=Path, default=argparse.SUPPRESS, help=f"default: {DEFAULT_FILE}")
    actions = parser.add_subparsers(dest="action", required=True)
    for name, text in (
        ("release", "release a commit"),
        ("rollback", "return to the release before, or to the one that is named"),
        ("contract", "remove from the schema what only older releases used; then no rollback is possible"),
    ):
        action = actions.add_parser(name, help=text, parents=[config])
        if name != "contract":
            action.add_argument("commit", metavar="SHA", nargs=None if name == "release" else "?")
        action.add_argument("--dry-run", action="store_true", help="print the steps and change nothing")
    actions.add_parser("log", help="print the log of releases", parents=[config])
    return parser


def _plan(options: argparse.Namespace, journal: Journal, target: Target) -> Operation:
    """Return the operation that the options ask for. Raises UsageError."""
    interrupted = journal.operation()
    action: Action = options.action
    if action == "rollback":
        release = target.rollback_target(options.commit, interrupted)
    elif action == "contract":
        serving = target.serving()
        if serving is None or interrupted is not None:
            raise UsageError("Contract the schema after a release that has ended: run `deploy/release SHA` first.")
        release = serving
    else:
        release = target.resolve(options.commit)
        if interrupted is not None and (interrupted.action, interrupted.to) != ("release", release):
            raise UsageError(
                f"The {interrupted.action} of {interrupted.to} by {interrupted.who} was interrupted at step "
                f"'{interrupted.step}'. Repeat that command to finish it, or run `deploy/rollback`."
            )
    previous = interrupted.previous if interrupted is not None and action == "release" else target.serving()
    return Operation(action, release, previous, who(), now())


def _dry_run(options: argparse.Namespace, journal: Journal, target: Target, say: Say) -> int:
    operation = _plan(options, journal, target)
    say(f"{operation.action} {operation.to} (now: {operation.previous or 'none'}); nothing is changed")
    show_steps(target.steps(operation), say)
    return DONE


def _run(options: argparse.Namespace, journal: Journal, target: Target, say: Say) -> int:
    interrupted = journal.operation()
    operation = _plan(options, journal, target)
    say(f"{operation.action} {operation.to} (before: {operation.previous or 'none'})")
    if interrupted is not None:
        say(f"The {interrupted.action} of {interrupted.started} was interrupted at step '{interrupted.step}'")
        journal.log(interrupted, f"interrupted at step '{interrupted.step}'")
    journal.log(operation, "started")
    undo = target.undo(operation) if operation.action == "release" else None
    started = time.monotonic()
    try:
        run_steps(
            target.steps(operation),
            say,
            lambda step: journal.begin(replace(operation, step=step)),
        )
    except StepFailed as failed:
        result = f"failed at step '{failed.step.name}': {failed.what.splitlines()[0]}"
        if undo is not None and failed.step.name not in ("build", "preflight", "expand migration", *_AFTERWARDS):
            result += _undo(undo, say)
        elif failed.step.name in _AFTERWARDS:
            result += "; traffic is on the new release"
        if failed.step.name not in _AFTERWARDS:
            journal.end()
        journal.log(operation, result, time.monotonic() - started)
        return FAILED
    journal.end()
    seconds = time.monotonic() - started
    journal.log(operation, "done", seconds)
    say(f"{operation.action} {operation.to} is done ({seconds:.1f} s)")
    return DONE


def _undo(undo: Callable[[], str], say: Say) -> str:
    say("Taking the release back:")
    try:
        say(f"      {undo()}; traffic is on the release before")
    except STEP_ERRORS as raised:
        error = LaneError.of(raised)
        say(f"      FAILED: {error.what}")
        say("      To do: run `deploy/rollback`.")
        return f"; not taken back: {error.what.splitlines()[0]}"
    return "; taken back"


def _show_log(journal: Journal, say: Say) -> int:
    if journal.log_file.exists():
        say(journal.log_file.read_text().rstrip())
    return DONE
