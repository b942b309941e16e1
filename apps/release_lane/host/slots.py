"""The slots of a host: which of a slot's two ports serves, and which release runs there.

Files below the lane's root::

    releases/SHA/              a release, see builder.py
    instances/PORT/release     a link to the release that runs, or is to run, on this port
    instances/PORT/instance.env  PLATFORM_BUILD_SHA and PLATFORM_METRICS_PORT of this instance
    active.json                the serving port and release of each slot; the release before
    current, previous          links to releases, for people
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from apps.release_lane.errors import UsageError
from apps.release_lane.journal import link_whole, write_whole
from apps.release_lane.settings import LaneSettings


@dataclass(frozen=True, slots=True)
class Active:
    """What serves. `ports` and `releases` are by slot number; a slot without an instance is in neither."""

    release: str | None = None
    """The release that was rolled out completely."""
    previous: str | None = None
    """The release to roll back to; None after a rollback, and after a contract migration, which it cannot run on."""
    rolled_back_from: str | None = None
    """The release that a rollback replaced, until the next release."""
    ports: Mapping[int, int] = field(default_factory=dict)
    releases: Mapping[int, str] = field(default_factory=dict)

    @property
    def mixed(self) -> bool:
        """Whether a slot serves another release than the one that was rolled out completely."""
        return any(release != self.release for release in self.releases.values())

    def with_slot(self, slot: int, port: int, release: str) -> "Active":
        """Return the state after a switch of one slot."""
        return replace(self, ports={**self.ports, slot: port}, releases={**self.releases, slot: release})


class Slots:
    """The state of all slots on disk."""

    def __init__(self, settings: LaneSettings) -> None:
        self._settings = settings
        self._file = settings.root / "active.json"

    def read(self) -> Active:
        """Return what serves.

        Raises:
            UsageError: active.json is damaged.
        """
        try:
            found = json.loads(self._file.read_text())
            return Active(
                found["release"],
                found["previous"],
                found["rolled_back_from"],
                {int(slot): port for slot, port in found["ports"].items()},
                {int(slot): release for slot, release in found["releases"].items()},
            )
        except FileNotFoundError:
            return Active()
        except (ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{self._file} is damaged ({error}); compare it with the running instances") from None

    def write(self, active: Active) -> None:
        """Store what serves, and point `current` and `previous` at the releases."""
        write_whole(self._file, json.dumps(asdict(active), indent=1))
        for name, release in (("current", active.release), ("previous", active.previous)):
            link = self._settings.root / name
            if release is None:
                link.unlink(missing_ok=True)
            else:
                link_whole(link, f"releases/{release}")

    def port_for(self, slot: int, release: str, active: Active) -> int:
        """Return the port of this slot on which the release runs or is to start: the idle one, unless it serves."""
        first, second = self._settings.slots[slot]
        serving = active.ports.get(slot)
        if serving is None:
            return first
        if active.releases.get(slot) == release:
            return serving
        return second if serving == first else first

    def idle_ports(self, active: Active) -> list[int]:
        """Return every port that serves nothing."""
        return [port for slot in self._settings.slots for port in slot if port not in active.ports.values()]

    def directory(self, port: int) -> Path:
        """Return the directory of an instance."""
        return self._settings.root / "instances" / str(port)

    def release_on(self, port: int) -> str | None:
        """Return the release of an instance's link, or None."""
        link = self.directory(port) / "release"
        return link.readlink().name if link.is_symlink() else None

    def prepare(self, port: int, release: str) -> None:
        """Point an instance that does not run at a release."""
        lines = [f"PLATFORM_BUILD_SHA={release}", f"PLATFORM_METRICS_PORT={self._settings.metrics_port(port)}"]
        write_whole(self.directory(port) / "instance.env", "\n".join(lines) + "\n")
        link_whole(self.directory(port) / "release", f"../../releases/{release}")
