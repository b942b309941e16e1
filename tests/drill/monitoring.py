"""Real Prometheus and Alertmanager, as Debian installs them, with windows divided by the drill's factor."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from apps.platform_cli.embedded.child import ChildProcess
from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config
from tests.drill.webhooks import AlertLog, PostReceiver, WebhookCallback
from tests.drill.windows import scaled_query, scaled_rules
from tests.support.servers.ports import free_port

INTERVAL = "1s"
"""Between two scrapes, and between two evaluations of the rules."""
_READY_SECONDS = 60.0
_ALERTMANAGER = "prometheus-alertmanager"


@dataclass(frozen=True)
class Sample:
    """One series of a query's result."""

    labels: Mapping[str, str]
    value: float


@dataclass
class Monitoring:
    """A Prometheus that scrapes the gateway and evaluates its alerts, and what its Alertmanager has sent."""

    prometheus: EmbeddedPrometheus
    alerts: AlertLog
    factor: int

    def query(self, query: str) -> list[Sample]:
        """Execute a query now, with its windows divided by the factor.

        Raises:
            ValueError: Prometheus refuses the query.
        """
        response = httpx.get(
            f"{self.prometheus.url}/api/v1/query",
            params={"query": scaled_query(query, self.factor)},
            timeout=30,
            trust_env=False,
        )
        body: dict[str, Any] = response.json()
        if body["status"] != "success":
            raise ValueError(f"Prometheus refuses the query {query!r}: {body.get('error')}")
        data = body["data"]
        if data["resultType"] != "vector":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]


def missing_programs() -> list[str]:
    """Return the programs that the drill needs and that are not installed."""
    found = {"prometheus": find_prometheus(), _ALERTMANAGER: shutil.which(_ALERTMANAGER)}
    return [name for name, path in found.items() if path is None]


@contextmanager
def running_monitoring(directory: Path, metrics_address: str, factor: int) -> Iterator[Monitoring]:
    """Start Prometheus, Alertmanager and the receiver of its webhooks; stop all of them at the end."""
    log = AlertLog()
    with ExitStack() as stack:
        receiver = stack.enter_context(PostReceiver(free_port(), WebhookCallback(log)))
        alertmanager = _start_alertmanager(stack, directory, receiver.url)
        rules = directory / "rules.yml"
        rules.write_text(scaled_rules(factor))
        config = {
            **gateway_config(metrics_address, [rules], scrape_interval=INTERVAL, evaluation_interval=INTERVAL),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        }
        prometheus = EmbeddedPrometheus(directory / "prometheus", config, port=free_port())
        stack.callback(prometheus.stop)
        prometheus.start()
        yield Monitoring(prometheus, log, factor)


def _start_alertmanager(stack: ExitStack, directory: Path, receiver_url: str) -> str:
    """Start Alertmanager and return its address."""
    config = directory / "alertmanager.yml"
    config.write_text(yaml.safe_dump(_alertmanager_config(receiver_url)))
    binary = shutil.which(_ALERTMANAGER)
    assert binary is not None, f"{_ALERTMANAGER} is not installed"
    address = f"127.0.0.1:{free_port()}"
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
    stack.callback(child.stop)

    def ready() -> bool:
        try:
            return httpx.get(f"http://{address}/-/ready", timeout=1, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    child.wait_ready(ready, _READY_SECONDS)
    return address


def _alertmanager_config(receiver_url: str) -> dict[str, Any]:
    """Send each alert alone and at once: the drill measures when it fires."""
    return {
        "route": {
            "receiver": "drill",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1s",
            "repeat_interval": "1h",
        },
        "receivers": [{"name": "drill", "webhook_configs": [{"url": receiver_url, "send_resolved": True}]}],
    }
