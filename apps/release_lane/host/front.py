"""The reverse proxy in front of the instances: which ports get traffic."""

from collections.abc import Sequence
from typing import Protocol

from apps.release_lane.commands import Commands, checked
from apps.release_lane.errors import LaneError
from apps.release_lane.host.addresses import Addresses
from apps.release_lane.journal import write_whole
from apps.release_lane.settings import FrontSettings

_HEAD = "# Written by deploy/release and deploy/rollback, included in the upstream block; do not edit.\n"


class Front(Protocol):
    """Sends traffic to a list of ports."""

    def send_traffic_to(self, ports: Sequence[int]) -> str:
        """Replace the list. Returns what was done. Raises LaneError; then the list before is in use."""


class NginxFront:
    """Writes the servers of nginx's upstream block and reloads nginx.

    A reload ends no request: nginx's old workers finish theirs, with the old list.
    """

    def __init__(self, settings: FrontSettings, commands: Commands, addresses: Addresses) -> None:
        self._settings = settings
        self._commands = commands
        self._addresses = addresses

    def send_traffic_to(self, ports: Sequence[int]) -> str:
        """Write the list, let nginx check it, and reload. A list that nginx refuses is taken back."""
        file = self._settings.upstream_file
        before = file.read_text() if file.exists() else None
        # max_fails=0: with a list of instances that are known to run, one failed request must not exclude all of them.
        servers = "".join(f"server {self._addresses.public(port)} max_fails=0;\n" for port in ports)
        write_whole(file, _HEAD + servers)
        try:
            checked(self._commands, self._settings.test)
            checked(self._commands, self._settings.reload)
        except LaneError as error:
            if before is not None:
                write_whole(file, before)
            raise LaneError(
                error.what, f"Fix nginx's configuration ({file} is as it was); repeat the command."
            ) from None
        return f"nginx sends requests to {', '.join(map(str, ports))}"


class CommandFront:
    """Calls a program of the operator with the ports as its arguments."""

    def __init__(self, settings: FrontSettings, commands: Commands) -> None:
        self._settings = settings
        self._commands = commands

    def send_traffic_to(self, ports: Sequence[int]) -> str:
        """Run the program."""
        checked(self._commands, [*self._settings.command, *map(str, ports)])
        return f"{self._settings.command[0]} sends requests to {', '.join(map(str, ports))}"


class NoFront:
    """A load balancer that asks each instance's /readyz finds the instances by itself."""

    def send_traffic_to(self, ports: Sequence[int]) -> str:
        """Do nothing."""
        return f"the load balancer finds {', '.join(map(str, ports))} through /readyz"


def make_front(settings: FrontSettings, commands: Commands, addresses: Addresses) -> Front:
    """Return the front that lane.toml names."""
    if settings.kind == "nginx":
        return NginxFront(settings, commands, addresses)
    return CommandFront(settings, commands) if settings.kind == "command" else NoFront()
