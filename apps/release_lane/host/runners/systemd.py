"""Instances as systemd units."""

import time
from collections.abc import Callable

from apps.release_lane.commands import Commands, checked
from apps.release_lane.errors import LaneError

_POLL_SECONDS = 0.5


class SystemdRunner:
    """One template unit, such as `flowbiz-platform@8101.service`. A started unit also starts with the machine."""

    def __init__(self, unit: str, commands: Commands, sleep: Callable[[float], None] = time.sleep) -> None:
        self._unit = unit
        self._commands = commands
        self._sleep = sleep

    def running(self, port: int) -> bool:
        """Return whether systemd keeps the unit running, also while it starts or stops."""
        done = self._commands.run(["systemctl", "show", "--property=ActiveState", "--value", self._name(port)])
        if done.code != 0:
            raise LaneError(f"systemctl: {done.last_lines()}", "Run the lane as root on a host with systemd.")
        return done.stdout.strip() not in ("inactive", "failed", "")

    def start(self, port: int) -> None:
        """Enable and start the unit."""
        if self._commands.run(["systemctl", "is-failed", "--quiet", self._name(port)]).code == 0:
            checked(self._commands, ["systemctl", "reset-failed", self._name(port)])
        checked(self._commands, ["systemctl", "enable", "--quiet", self._name(port)])
        checked(self._commands, ["systemctl", "start", "--no-block", self._name(port)])

    def stop(self, port: int, seconds: float) -> None:
        """Disable and stop the unit. systemd itself kills what exceeds the unit's TimeoutStopSec."""
        checked(self._commands, ["systemctl", "disable", "--quiet", self._name(port)])
        checked(self._commands, ["systemctl", "stop", "--no-block", self._name(port)])
        waited = 0.0
        while self.running(port):
            if waited >= seconds:
                raise LaneError(f"{self._name(port)} did not stop within {seconds:g} s", f"Read {self.log_of(port)}.")
            self._sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS

    def log_of(self, port: int) -> str:
        """Return the command that shows the unit's log."""
        return f"journalctl -u {self._name(port)}"

    def _name(self, port: int) -> str:
        return self._unit.replace("{port}", str(port))
