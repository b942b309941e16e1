"""Stand-ins for the programs that the lane runs on a host: systemctl, nginx, git, pip and the release itself."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apps.release_lane.commands import Finished

FIRST, SECOND, THIRD = "a" * 40, "b" * 40, "c" * 40
OK = Finished(0, "", "")


class Killed(BaseException):
    """What a SIGKILL does to the lane: nothing after it runs, not even clean-up."""


@dataclass
class StandInCommands:
    """Records every program, and keeps the state of systemd's units."""

    root: Path
    calls: list[str] = field(default_factory=list)
    units: dict[int, str] = field(default_factory=dict)
    """The running units: port and release."""
    kill_at: int | None = None
    """The number of the call at which the lane is killed, before the program runs."""
    fail: Callable[[str], Finished | None] = lambda _: None
    """Returns the result of a call that is to fail."""

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 600.0,
    ) -> Finished:
        """Note the call and act on it."""
        call = " ".join(argument.replace(str(self.root), "ROOT") for argument in arguments)
        if self.kill_at is not None and len(self.calls) >= self.kill_at:
            raise Killed
        self.calls.append(call)
        if (failed := self.fail(call)) is not None:
            return failed
        if arguments[0] == "systemctl":
            return self._systemctl(list(arguments))
        if "smoke" in arguments:
            return Finished(0, json.dumps({"ok": True, "checks": [{"name": "chat", "status": "passed"}]}), "")
        return OK

    def of(self, *words: str) -> list[str]:
        """Return the calls that contain all words."""
        return [call for call in self.calls if all(word in call for word in words)]

    def problem(self, port: int) -> str | None:
        """The lane's probe of readiness."""
        return None if port in self.units else "GET /readyz: connection refused"

    def in_flight(self, metrics_port: int) -> int | None:
        """The lane's probe of running requests."""
        return 0

    def _systemctl(self, arguments: list[str]) -> Finished:
        if arguments[1] in ("is-failed",):
            return Finished(1, "", "")
        if not arguments[-1].startswith("flowbiz-platform@"):
            return OK
        port = int(arguments[-1].removeprefix("flowbiz-platform@").removesuffix(".service"))
        if arguments[1] == "show":
            return Finished(0, "active\n" if port in self.units else "inactive\n", "")
        if arguments[1] == "start":
            self.units[port] = (self.root / "instances" / str(port) / "release").readlink().name
        elif arguments[1] == "stop":
            self.units.pop(port, None)
        return OK


@dataclass
class StandInHost:
    """lane.toml of a host with systemd and nginx, both stand-ins, and three built releases."""

    directory: Path

    def __post_init__(self) -> None:
        self.commands = StandInCommands(self.root)
        self.output: list[str] = []
        (self.directory / "platform.env").write_text("PLATFORM_ENV=production\n")
        (self.directory / "smoke.key").write_text("fbp_test_key\n")
        self.config.write_text(
            f'root = "{self.root}"\nenvironment_file = "{self.directory}/platform.env"\n'
            f'smoke_key_file = "{self.directory}/smoke.key"\nsettle_seconds = 0\n'
            f'[front]\nkind = "nginx"\nupstream_file = "{self.upstreams}"\n'
        )
        for release in (FIRST, SECOND, THIRD):
            (self.root / "releases" / release).mkdir(parents=True)
            (self.root / "releases" / release / "complete").touch()

    @property
    def root(self) -> Path:
        return self.directory / "srv"

    @property
    def config(self) -> Path:
        return self.directory / "lane.toml"

    @property
    def upstreams(self) -> Path:
        return self.directory / "upstreams.conf"

    @property
    def traffic(self) -> list[int]:
        """The ports in nginx's list."""
        lines = self.upstreams.read_text().splitlines() if self.upstreams.exists() else []
        return [int(line.split()[1].partition(":")[2]) for line in lines if line.startswith("server")]

    @property
    def serving(self) -> list[str | None]:
        """The releases behind nginx's ports; None for a port on which nothing runs."""
        return [self.commands.units.get(port) for port in self.traffic]

    def log(self) -> list[dict[str, str]]:
        """The log of releases, without the lines of starts."""
        lines = [json.loads(line) for line in (self.root / "lane" / "releases.log").read_text().splitlines()]
        return [line for line in lines if line["result"] != "started"]
