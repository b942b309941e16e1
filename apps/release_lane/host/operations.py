"""The steps of a release and of a rollback on a plain host."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from apps.release_lane.commands import Commands, Finished, checked
from apps.release_lane.environment_file import read_environment
from apps.release_lane.errors import LaneError, UsageError
from apps.release_lane.host.addresses import Addresses
from apps.release_lane.host.builder import Builder
from apps.release_lane.host.front import Front
from apps.release_lane.host.probes import Probes
from apps.release_lane.host.runners.interface import Runner
from apps.release_lane.host.slots import Active, Slots
from apps.release_lane.journal import write_whole
from apps.release_lane.settings import LaneSettings
from apps.release_lane.steps import Step

NO_CONTRACT = "This version has no contract migration."
"""The beginning of what `migrate contract` of a release prints if it has none."""
_POLL_SECONDS = 0.25
_AGAIN = "Repeat the command: it continues. `deploy/rollback` returns to the release before."
_UNDONE = "Traffic stays on the release before. Fix the cause, then repeat the command."


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that the steps need."""

    settings: LaneSettings
    commands: Commands
    builder: Builder
    slots: Slots
    runner: Runner
    front: Front
    probes: Probes
    addresses: Addresses
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def release_steps(self, release: str) -> list[Step]:
        """Return the steps of a release: the first slot alone, then the others, then the old instances end."""
        short = release[:12]
        first, *others = range(len(self.settings.slots))
        steps = [
            Step("build", f"Build releases/{short} unless it is there", lambda: self.builder.build(release), _UNDONE),
            Step("preflight", "Run the release's `flowbiz-platform check`", lambda: self._check(release), _UNDONE),
            Step(
                "expand migration",
                "Run the release's `flowbiz-platform migrate up`; the release before can use the expanded schema",
                lambda: self._migrate(release, "up"),
                "Each migration is a transaction, so the schema is at a whole revision. " + _UNDONE,
            ),
        ]
        for slot in (first, *others):
            steps += self._slot_steps(slot, release)
        return [*steps, self._record_step(release), self._retire_step(), self._prune_step(release)]

    def rollback_steps(self, release: str) -> list[Step]:
        """Return the steps back to a release: all slots at once, and no wait for requests before the switch."""
        everything = range(len(self.settings.slots))
        remedy = "Repeat the command. If the release does not start, release an older one: `deploy/release SHA`."

        def start() -> str:
            ports = [self._start(slot, release) for slot in everything]
            for port in ports:
                self._wait_ready(port)
            return f"ready on {', '.join(map(str, ports))}"

        def switch() -> str:
            active = self.slots.read()
            for slot in everything:
                active = active.with_slot(slot, self.slots.port_for(slot, release, active), release)
            return self._switch(active)

        def record() -> str:
            active = self.slots.read()
            if active.release != release:
                active = replace(active, release=release, previous=None, rolled_back_from=active.release)
            self.slots.write(active)
            return f"current is {release}"

        return [
            Step("start", f"Start {release[:12]} on the idle ports, unless it still runs there", start, remedy),
            Step("switch", "Send all traffic to it", switch, remedy),
            Step("record", "Point `current` at it", record, remedy),
            Step("smoke", "Run the smoke checks on the first slot", lambda: self._smoke(0, release), remedy),
            self._retire_step(),
        ]

    def contract_steps(self, release: str) -> list[Step]:
        """Return the steps of the contract migration, after which the release before cannot run."""
        contracts = True

        def migrate() -> str:
            nonlocal contracts
            running = {self.slots.release_on(port) for port in self._running_ports()}
            if running - {release}:
                others = ", ".join(sorted(str(each)[:12] for each in running - {release}))
                raise LaneError(f"instances of {others} still run", "Run `deploy/release` again: it ends them.")
            printed = self._migrate(release, "contract")
            contracts = not printed.startswith(NO_CONTRACT)
            return printed

        def forget() -> str:
            if not contracts:
                return "nothing was removed, so the release before can still be returned to"
            self.slots.write(replace(self.slots.read(), previous=None, rolled_back_from=None))
            return "the release before can no longer be returned to"

        return [
            Step("contract migration", "Remove what only older releases used", migrate, "Repeat the command."),
            Step("record", "Forget the release before, which cannot run on this schema", forget, "Repeat the command."),
        ]

    def undo(self, release: str) -> str:
        """Return all traffic to a release, and end what a failed release started.

        Raises:
            LaneError: the release does not become ready.
        """
        active = self.slots.read()
        for slot in range(len(self.settings.slots)):
            port = self._start(slot, release)
            self._wait_ready(port)
            active = active.with_slot(slot, port, release)
        self._switch(active)
        return self._retire(self.settings.finish_seconds)

    def check_rollback(self, active: Active, wanted: str | None) -> str:
        """Return the release to roll back to.

        Raises:
            UsageError: there is none.
        """
        release = wanted or (active.release if active.mixed or active.rolled_back_from else active.previous)
        if release is None:
            raise UsageError(
                "No release to roll back to: this is the first one, or its schema was contracted. Name one: "
                "`deploy/rollback SHA`, or release a fixed commit."
            )
        if not self.builder.is_built(release):
            raise UsageError(f"{self.builder.directory(release)} is not built; `deploy/release {release}` builds it")
        return release

    def _slot_steps(self, slot: int, release: str) -> Iterator[Step]:
        first, second = self.settings.slots[slot]
        name = f"slot {first}/{second}"

        def start() -> str:
            port = self._start(slot, release)
            self._wait_ready(port)
            return f"ready on port {port}"

        def switch() -> str:
            active = self.slots.read()
            return self._switch(active.with_slot(slot, self.slots.port_for(slot, release, active), release))

        log = f"Read the log of the instance that did not start. {_UNDONE}"
        yield Step(f"start, {name}", f"Start {release[:12]} on the idle port and wait until it is ready", start, log)
        yield Step(f"smoke, {name}", "Run the smoke checks", lambda: self._smoke(slot, release), _UNDONE)
        yield Step(f"switch, {name}", "Send the slot's traffic to it", switch, _AGAIN)

    def _record_step(self, release: str) -> Step:
        def record() -> str:
            active = self.slots.read()
            if active.release != release:
                active = replace(active, release=release, previous=active.release, rolled_back_from=None)
            self.slots.write(active)
            return f"current is {release}, previous is {active.previous or 'none'}"

        return Step("record", "Point `current` and `previous` at their releases", record, _AGAIN)

    def _retire_step(self) -> Step:
        seconds = self.settings.finish_seconds
        does = f"End the old instances when their last request has ended, at most {seconds:g} s later"
        return Step("retire", does, lambda: self._retire(seconds), "Traffic is on the new instances. " + _AGAIN)

    def _prune_step(self, release: str) -> Step:
        keep = self.settings.keep_releases

        def prune() -> str:
            active = self.slots.read()
            on_ports = {self.slots.release_on(port) for slot in self.settings.slots for port in slot}
            needed = {release, active.release, active.previous, active.rolled_back_from, *on_ports}
            return self.builder.prune(keep, {each for each in {*needed, *active.releases.values()} if each})

        does = f"Remove all but the newest {keep} releases; never one that runs, or that a rollback needs"
        return Step("prune", does, prune, "Traffic is on the new instances. Repeat the command: it continues.")

    def _check(self, release: str) -> str:
        live = [] if self.settings.check_live else ["--no-live"]
        done = self._platform(
            release,
            ["check", "--before-migration", *live],
            self._environment(self.settings.check_environment_file),
            timeout=300.0,
        )
        warnings = [line for line in done.stdout.splitlines() if line.startswith("warn")]
        return "\n      ".join([f"{len(done.stdout.splitlines())} checks, {len(warnings)} warnings", *warnings])

    def _migrate(self, release: str, direction: str) -> str:
        environment = self._environment(self.settings.migration_environment_file)
        done = self._platform(release, ["migrate", direction], environment, timeout=3600.0)
        # A right that could not be granted is on the standard error, also if the schema was migrated.
        printed = "\n".join(filter(None, [done.stdout.strip(), done.stderr.strip()]))
        return printed.replace("\n", "\n      ") or "done"

    def _smoke(self, slot: int, release: str) -> str:
        port = self.slots.port_for(slot, release, self.slots.read())
        try:
            key = self.settings.smoke_key_file.read_text().strip()
        except OSError as error:
            raise LaneError(
                f"{self.settings.smoke_key_file}: {error.strerror}",
                "Create a key for smoke checks (docs/deploy.md, Smoke) and write it to this file.",
            ) from None
        arguments = [
            "smoke", "--base-url", f"http://{self.addresses.public(port)}", "--expect-sha", release, "--json",
            "--metrics-url", f"http://{self.addresses.metrics(self.settings.metrics_port(port))}/metrics",
            "--timeout", f"{self.settings.smoke_seconds:g}",
        ]  # fmt: skip
        program = str(self.builder.directory(release) / "bin" / "flowbiz-platform")
        done = self.commands.run(
            [program, *arguments], environment={"PLATFORM_CHAT_KEY": key}, timeout=self.settings.smoke_seconds + 60
        )
        return smoke_result(done.code, done.stdout, done.last_lines())

    def _start(self, slot: int, release: str) -> int:
        """Start a release in a slot, unless it runs there already. Return its port."""
        port = self.slots.port_for(slot, release, self.slots.read())
        if self.slots.release_on(port) != release and self.runner.running(port):
            self.runner.stop(port, self.settings.stop_seconds)
        if not self.runner.running(port):
            self.slots.prepare(port, release)
            self.runner.start(port)
        return port

    def _wait_ready(self, port: int) -> None:
        deadline = self.clock() + self.settings.start_seconds
        while (problem := self.probes.problem(port)) is not None:
            if not self.runner.running(port):
                raise LaneError(
                    f"the instance on port {port} ended while it started; its log: {self.runner.log_of(port)}"
                )
            if self.clock() >= deadline:
                raise LaneError(
                    f"the instance on port {port} was not ready within {self.settings.start_seconds:g} s: {problem}; "
                    f"its log: {self.runner.log_of(port)}"
                )
            self.sleep(_POLL_SECONDS)

    def _switch(self, active: Active) -> str:
        """Send traffic to what is to be active, and write that down."""
        done = self.front.send_traffic_to([active.ports[slot] for slot in sorted(active.ports)])
        self.slots.write(active)
        return done

    def _retire(self, seconds: float) -> str:
        """End every instance that serves nothing."""
        active = self.slots.read()
        ports = [port for port in self.slots.idle_ports(active) if self.runner.running(port)]
        self._write_targets(active, ports)
        if not ports:
            return "no old instance runs"
        self.sleep(self.settings.settle_seconds)  # the front may still pass on what it read before the switch
        deadline = self.clock() + seconds
        busy = set(ports)
        while busy and self.clock() < deadline:
            busy = {port for port in busy if self._is_busy(port)}
            if busy:
                self.sleep(_POLL_SECONDS)
        for port in ports:
            self.runner.stop(port, self.settings.stop_seconds)
        self._write_targets(active, [])
        ended = f"ended {', '.join(map(str, ports))}"
        return f"{ended}; requests still ran on {', '.join(map(str, busy))}" if busy else ended

    def _write_targets(self, active: Active, old: Sequence[int]) -> None:
        """List the instances that run for Prometheus: an idle port is no instance that is down."""
        if self.settings.scrape_targets_file is not None:
            ports = sorted({*active.ports.values(), *old})
            targets = [self.addresses.scraped(self.settings.metrics_port(port)) for port in ports]
            write_whole(self.settings.scrape_targets_file, json.dumps([{"targets": targets}]) + "\n")

    def _is_busy(self, port: int) -> bool:
        """Return whether requests run on an instance. One whose metrics cannot be read may have some."""
        requests = self.probes.in_flight(self.settings.metrics_port(port))
        return self.runner.running(port) if requests is None else requests > 0

    def _running_ports(self) -> list[int]:
        return [port for slot in self.settings.slots for port in slot if self.runner.running(port)]

    def _environment(self, more: Path | None) -> dict[str, str]:
        found = read_environment(self.settings.environment_file)
        return found if more is None else {**found, **read_environment(more)}

    def _platform(self, release: str, arguments: list[str], environment: Mapping[str, str], timeout: float) -> Finished:
        program = str(self.builder.directory(release) / "bin" / "flowbiz-platform")
        return checked(self.commands, [program, *arguments], environment=environment, timeout=timeout)


def smoke_result(code: int, output: str, last_lines: str) -> str:
    """Return a summary of the smoke checks' JSON.

    Raises:
        LaneError: a check failed, with what was received and expected.
    """
    try:
        checks = json.loads(output)["checks"]
    except (ValueError, KeyError):
        raise LaneError(f"the smoke checks did not run (exit code {code}):\n{last_lines}") from None
    failed = [
        f"{each['name']}: received {each['detail']}; expected {each['expected']}. {each['remedy']}"
        for each in checks
        if each["status"] == "failed"
    ]
    if failed or code != 0:
        raise LaneError("smoke checks failed:\n        " + "\n        ".join(failed))
    skipped = [f"{each['name']} ({each['detail']})" for each in checks if each["status"] == "skipped"]
    passed = f"{len(checks) - len(skipped)} checks passed"
    return f"{passed}; skipped: {', '.join(skipped)}" if skipped else passed
