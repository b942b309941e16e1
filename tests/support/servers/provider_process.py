"""The provider simulator in a separate process, whose faults are switched over HTTP."""

import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from apps.platform_cli.embedded.child import ChildProcess


@dataclass(frozen=True)
class Provider:
    """A simulated provider in a separate process."""

    name: str
    base_url: str

    def switch(self, fault: str, model: str = "") -> None:
        """Let one upstream model, or all, fail from now on."""
        self._post({"fault": fault, "model": model})

    def clear(self) -> None:
        """Let all models work again."""
        self._post({})

    def _post(self, parameters: Mapping[str, str]) -> None:
        url = f"{self.base_url.removesuffix('/v1')}/_sim/fault"
        httpx.post(url, params=dict(parameters), timeout=30, trust_env=False).raise_for_status()


def start_provider(stack: ExitStack, directory: Path, name: str) -> Provider:
    """Start the simulator as a process that ends with the stack."""
    ready = directory / f"{name}.json"
    arguments = [sys.executable, "-m", "apps.provider_simulator", "--port", "0", "--ready-file", str(ready)]
    child = ChildProcess(f"the provider {name}", arguments, log_file=directory / f"{name}.log")
    stack.callback(child.stop)
    child.wait_ready(ready.exists, 60)
    return Provider(name, json.loads(ready.read_text())["base_url"])
