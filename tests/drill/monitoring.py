"""Real Prometheus and Alertmanager, as Debian installs them, with windows divided by the drill's factor."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from alerts.durations import scaled_expression
from alerts.rules import Options, rules_text
from apps.platform_cli.embedded.prometheus import EmbeddedPrometheus, find_prometheus, gateway_config
from tests.drill.alertmanager import PROGRAM, Alertmanager, running_alertmanager
from tests.support.servers.network.ports import free_port

INTERVAL = "1s"
"""Between two scrapes, and between two evaluations of the rules."""


@dataclass(frozen=True)
class Sample:
    """One series of a query's result."""

    labels: Mapping[str, str]
    value: float


@dataclass
class Monitoring:
    """A Prometheus that scrapes the gateway and evaluates its alerts, and its Alertmanager."""

    prometheus: EmbeddedPrometheus
    alerts: Alertmanager
    factor: int

    def query(self, query: str) -> list[Sample]:
        """Execute a query now, with its windows divided by the factor.

        Raises:
            ValueError: Prometheus refuses the query.
        """
        response = httpx.get(
            f"{self.prometheus.url}/api/v1/query",
            params={"query": scaled_expression(query, self.factor)},
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
    found = {"prometheus": find_prometheus(), PROGRAM: shutil.which(PROGRAM)}
    return [name for name, path in found.items() if path is None]


@contextmanager
def running_monitoring(directory: Path, metrics_address: str, factor: int) -> Iterator[Monitoring]:
    """Start Prometheus, Alertmanager and the receiver of its webhooks; stop all of them at the end."""
    with running_alertmanager(directory, factor) as alertmanager:
        rules = directory / "rules.yml"
        rules.write_text(rules_text(Options(scale=factor)))
        target = alertmanager.url.removeprefix("http://")
        config = {
            **gateway_config(metrics_address, [rules], scrape_interval=INTERVAL, evaluation_interval=INTERVAL),
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [target]}]}]},
        }
        prometheus = EmbeddedPrometheus(directory / "prometheus", config, port=free_port())
        try:
            prometheus.start()
            yield Monitoring(prometheus, alertmanager, factor)
        finally:
            prometheus.stop()
