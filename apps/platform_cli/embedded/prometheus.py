"""Prometheus as it is installed on this machine, run in the foreground as a child process."""

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import httpx
import yaml

from apps.platform_cli.embedded.child import ChildProcess, reap_leftover
from apps.platform_cli.embedded.errors import EmbeddedError
from apps.platform_cli.embedded.server import EmbeddedServer

JOB = "flowbiz-platform"
"""The name of the scrape job that our rules and dashboards expect."""


class EmbeddedPrometheus(EmbeddedServer):
    """A Prometheus server on a port of 127.0.0.1. It deletes the oldest data above a size and an age."""

    name = "Prometheus"
    pid_name: ClassVar[str] = "prometheus.pid"

    def __init__(
        self,
        directory: Path,
        config: Mapping[str, Any],
        *,
        port: int,
        retention: str = "7d",
        retention_size: str = "512MB",
        log_file: Path | None = None,
        die_with_parent: bool = True,
    ) -> None:
        """Prepare; nothing is touched before `start`.

        Args:
            directory: for configuration, data and the PID file; created with its parents if it is missing.
            config: the configuration, see `gateway_config`.
            port: the port of 127.0.0.1.
            retention: the age at which data is deleted.
            retention_size: the size above which the oldest data is deleted.
            log_file: the server's log; by default `<directory>.log`.
            die_with_parent: end when the calling process dies (Linux).
        """
        super().__init__()
        self.directory = Path(os.path.realpath(directory))
        self._config = config
        self._port = port
        self._retention = retention
        self._retention_size = retention_size
        self._log_file = log_file or self.directory.with_name(self.directory.name + ".log")
        self._death_signal = signal.SIGTERM if die_with_parent else None

    @property
    def url(self) -> str:
        """The address of its page and its API."""
        return f"http://127.0.0.1:{self._port}"

    def spawn(self) -> None:
        """Start the server; see EmbeddedServer.spawn."""
        self.check_not_running()
        binary = find_prometheus()
        if binary is None:
            raise EmbeddedError("Prometheus is not installed: no program `prometheus` in PATH")
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        pid_file = self.directory / self.pid_name
        reap_leftover(pid_file)
        config_file = self.directory / "prometheus.yml"
        config_file.write_text(yaml.safe_dump(dict(self._config), sort_keys=False), encoding="utf-8")
        self._child = ChildProcess(
            self.name,
            [
                binary,
                f"--config.file={config_file}",
                f"--storage.tsdb.path={self.directory / 'data'}",
                f"--storage.tsdb.retention.time={self._retention}",
                f"--storage.tsdb.retention.size={self._retention_size}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--enable-feature=exemplar-storage",
            ],
            log_file=self._log_file,
            cwd=self.directory,
            death_signal=self._death_signal,
            pid_file=pid_file,
        )

    def responds(self) -> bool:
        """Return whether it serves queries; see EmbeddedServer.responds."""
        try:
            return httpx.get(f"{self.url}/-/ready", timeout=1.0, trust_env=False).status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False


def find_prometheus() -> str | None:
    """Return the program's path, or None if it is not installed."""
    return shutil.which("prometheus")


def gateway_config(
    metrics_address: str, rule_files: Sequence[Path], *, scrape_interval: str = "5s", evaluation_interval: str = "5s"
) -> dict[str, Any]:
    """Return a configuration that scrapes a gateway's metrics at `host:port` and evaluates rule files."""
    return {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": evaluation_interval},
        "rule_files": [str(file) for file in rule_files],
        "scrape_configs": [
            {
                "job_name": JOB,
                "scrape_timeout": scrape_interval,
                "static_configs": [{"targets": [metrics_address]}],
            }
        ],
    }


def rule_files(folder: Path) -> list[Path]:
    """Return the files of a folder that hold Prometheus rules: those with `groups`, which promtool's tests do not
    have."""
    found = []
    for file in sorted(folder.glob("*.yml")):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "groups" in content:
            found.append(file)
    return found
