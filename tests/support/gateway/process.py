"""A gateway as operators run it: `flowbiz-platform serve` in separate processes."""

import http.client
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from apps.platform_cli.embedded.child import ChildProcess
from tests.support.servers.network.ports import free_port

READY_SECONDS = 100.0


@dataclass
class Gateway:
    """`with Gateway(environment, directory) as gateway:`, then talk to `gateway.base_url`."""

    environment: Mapping[str, str]
    directory: Path
    workers: int = 1
    port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    child: ChildProcess | None = None
    checkout: Path | None = None
    """The checkout whose code runs; None for this one."""
    _log: "_Log" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._log = _Log(self.log_file)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def chat_url(self) -> str:
        return f"{self.base_url}/v1/platform/chat"

    @property
    def log_file(self) -> Path:
        return self.directory / f"gateway-{self.port}.log"

    def start(self) -> Self:
        arguments = ["--port", str(self.port), "--metrics-port", str(self.metrics_port), "--workers", str(self.workers)]
        self.child = ChildProcess(
            "the gateway",
            [sys.executable, "-m", "apps.platform_cli", "serve", *arguments],
            env={"PLATFORM_SPOOL_DIR": str(self.directory / "spool"), **self.environment},
            log_file=self.log_file,
            cwd=self.checkout,
        )
        try:
            self.child.wait_ready(self._answers, READY_SECONDS)
            if self.workers > 1:  # only one of them is ready by now; another would still read what a test changes
                self.child.wait_ready(self._has_all_workers, READY_SECONDS)
        except BaseException:
            self.child.kill()
            raise
        return self

    def stop(self) -> int:
        assert self.child is not None
        return self.child.stop(grace_seconds=20)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def log_lines(self) -> list[dict[str, Any]]:
        """Every line of the log so far; each must be JSON."""
        return self._log.lines(ended=self.child is None or self.child.poll() is not None)

    def access_line(self, request_id: str, timeout_seconds: float = 60.0) -> dict[str, Any]:
        """The access line of one request."""
        return self.log_line("request", timeout_seconds, request_id=request_id)

    def log_line(self, event: str, timeout_seconds: float = 60.0, **fields: Any) -> dict[str, Any]:
        """Wait for the first line with this event and these fields, and return it.

        A line is written a few milliseconds after its event, so one that must be there is waited for.
        """
        wanted = {"event": event, **fields}
        deadline = time.monotonic() + timeout_seconds
        while True:
            for line in self.log_lines():
                if wanted.items() <= line.items():
                    return line
            assert time.monotonic() < deadline, f"no line with {wanted} in {self.log_file}"
            time.sleep(0.02)

    def metrics(self) -> str:
        """What the parent counts; on a busy machine it needs many seconds for thousands of series."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=300, trust_env=False).text

    def kill(self) -> None:
        """SIGKILL for the parent alone."""
        assert self.child is not None
        self.child.send(signal.SIGKILL)

    def _has_all_workers(self) -> bool:
        return f"\nplatform_workers_ready {self.workers}.0\n" in self.metrics()

    def _answers(self) -> bool:
        """Many calls while the gateway starts: a client of httpx would take seven times the CPU."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)) as connection:
                connection.request("GET", "/livez")
                return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


@dataclass
class _Log:
    """A log file of which each line is parsed once: the session's gateway writes tens of thousands."""

    file: Path
    read: int = 0
    """Bytes of `file` that are parsed."""
    parsed: list[dict[str, Any]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def lines(self, *, ended: bool) -> list[dict[str, Any]]:
        """Return all lines so far. A line without its end counts only if the process has ended."""
        with self.lock, self.file.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self.read:  # a restart began the file again
                self.read, self.parsed = 0, []
            file.seek(self.read)
            new = file.read()
            whole = new if ended else new[: new.rfind(b"\n") + 1]
            self.parsed += [json.loads(line) for line in whole.splitlines()]
            self.read += len(whole)
            return self.parsed.copy()


def write_config(path: Path, base_url: str, models: Mapping[str, str] | None = None, **sections: Any) -> Path:
    """A config file whose models all go to one OpenAI-compatible server.

    `models` maps public names to upstream names; `sections` are added as they are (`rate_limits=…`).
    """
    models = models or {"sim-ok": "sim-ok"}
    config = {
        "providers": {"simulator": {"base_url": base_url, "api_key_secret": "OPENAI_API_KEY"}},
        "models": {
            public: {"routes": [{"provider": "simulator", "model": upstream}]} for public, upstream in models.items()
        },
        **sections,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def write_catalog(
    path: Path,
    providers: Mapping[str, Mapping[str, Any]],
    models: Mapping[str, Sequence[tuple[str, str]]],
    route_fields: Mapping[str, Mapping[str, Any]] | None = None,
    **sections: Any,
) -> Path:
    """A config file with several providers, which share the simulator's key unless they say otherwise.

    `models` maps public names to their routes, each a provider and the model's name there; `route_fields` adds to the
    routes of an upstream model.
    """
    more = route_fields or {}
    config = {
        "providers": {name: {"api_key_secret": "OPENAI_API_KEY", **fields} for name, fields in providers.items()},
        "models": {
            public: {
                "routes": [
                    {"provider": provider, "model": upstream, **more.get(upstream, {})} for provider, upstream in routes
                ]
            }
            for public, routes in models.items()
        },
        **sections,
    }
    path.write_text(yaml.safe_dump(config))
    return path
