"""A real Alertmanager with the project's example configuration, its intervals divided by the drill's factor.

Routing, grouping and inhibition are those of the example. The URLs of its receivers are replaced by one local URL, and
each notification names the receiver that it is for.
"""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from alerts.durations import scaled
from apps.platform_cli.embedded.child import ChildProcess
from tests.drill.webhooks import DEADMAN, Alert, Notifications, PostReceiver, WebhookCallback
from tests.support.paths import ROOT
from tests.support.servers.network.ports import free_port

PROGRAM = "prometheus-alertmanager"
EXAMPLE = ROOT / "alerts/alertmanager.example.yml"
RECEIVERS = {"page": "page", "ticket": "ticket", "watchdog": "deadman"}
"""The receiver of each severity in the example."""
_INTERVALS = ("group_wait", "group_interval", "repeat_interval")
_READY_SECONDS = 60.0


@dataclass
class Alertmanager:
    """The alerts that Alertmanager has, and the notifications that it sent."""

    url: str
    sent: Notifications
    _inhibited: dict[tuple[str, str], float] = field(default_factory=dict)
    """When an alert was first seen as inhibited, by its fingerprint and its start."""

    def firing(self) -> Sequence[Alert]:
        """Return the alerts that fire now, inhibited ones too, without the deadman's switch."""
        response = httpx.get(f"{self.url}/api/v2/alerts", timeout=30, trust_env=False)
        response.raise_for_status()
        alerts = [_alert(each) for each in response.json()]
        for alert in alerts:
            if alert.inhibited:
                self._inhibited.setdefault(alert.key, time.monotonic())
        return [alert for alert in alerts if alert.name != DEADMAN]

    def find_sent(self, name: str, labels: Mapping[str, str]) -> tuple[float, Alert] | None:
        """Return the first alert that fires now, matches, and was sent, and when it was sent."""
        return self._first(name, labels, self.sent.firing_since())

    def find_inhibited(self, name: str, labels: Mapping[str, str]) -> tuple[float, Alert] | None:
        """Return the first alert that fires now, matches, and is inhibited, and when it was seen so first."""
        return self._first(name, labels, self._inhibited)

    def is_resolved(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether no matching alert fires now, and each receiver of one was notified.

        Alertmanager does not notify of a resolution while the alert is inhibited.
        """
        if any(alert.matches(name, labels) for alert in self.firing()):
            return False
        inhibited = {fingerprint for fingerprint, _ in self._inhibited}
        return all(alert.key[0] in inhibited or not alert.matches(name, labels) for alert in self.sent.not_resolved())

    def _first(
        self, name: str, labels: Mapping[str, str], since: Mapping[tuple[str, str], float]
    ) -> tuple[float, Alert] | None:
        found = [alert for alert in self.firing() if alert.matches(name, labels)]
        return min(((since[alert.key], alert) for alert in found if alert.key in since), key=_moment, default=None)


@contextmanager
def running_alertmanager(directory: Path, factor: int) -> Iterator[Alertmanager]:
    """Start Alertmanager and the receiver of its notifications; stop both at the end."""
    sent = Notifications()
    with PostReceiver(free_port(), WebhookCallback(sent)) as receiver:
        config = directory / "alertmanager.yml"
        config.write_text(yaml.safe_dump(example_config(receiver.url, factor)))
        address = f"127.0.0.1:{free_port()}"
        binary = shutil.which(PROGRAM)
        assert binary is not None, f"{PROGRAM} is not installed"
        child = ChildProcess(
            "Alertmanager",
            [
                binary,
                f"--config.file={config}",
                f"--storage.path={directory / 'alertmanager'}",
                f"--web.listen-address={address}",
                "--cluster.listen-address=",
            ],
            log_file=directory / "alertmanager.log",
        )
        try:
            child.wait_ready(lambda: _is_ready(address), _READY_SECONDS)
            yield Alertmanager(f"http://{address}", sent)
        finally:
            child.stop()


def example_config(receiver_url: str, factor: int) -> dict[str, Any]:
    """Return the example with its intervals divided by the factor, and each webhook sent to one URL."""
    config: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    for route in (config["route"], *config["route"]["routes"]):
        route.update({name: scaled(route[name], factor) for name in _INTERVALS if name in route})
    for receiver in config["receivers"]:
        for webhook in receiver["webhook_configs"]:
            webhook["url"] = receiver_url
    return config


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/-/ready", timeout=1, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _alert(shown: Mapping[str, Any]) -> Alert:
    inhibited = bool(shown["status"]["inhibitedBy"])
    return Alert(shown["labels"], shown["fingerprint"], shown["startsAt"], inhibited=inhibited)


def _moment(found: tuple[float, Alert]) -> float:
    return found[0]
