"""The official npm client runs its scenario (node/scenario.mjs) against the gateway."""

import json
import os
import re
from pathlib import Path

from tests.support.gateway.process import Gateway
from tests.support.providers.client_models import PIXEL
from tests.support.servers.node import LOCK, PROJECT, run_node


def test_node_client_passes_its_scenario(
    clients_gateway: Gateway, client_key: str, tight_key: str, wire: str, node_modules: Path
) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "BASE_URL": f"{clients_gateway.base_url}/v1",
        "API_KEY": client_key,
        "TIGHT_KEY": tight_key,
        "WIRE": wire,
        "PIXEL": PIXEL,
    }
    output = run_node(PROJECT / "scenario.mjs", environment)
    # A file without tests passes too.
    passed = re.search(r"pass (\d+)$", output, re.MULTILINE)
    assert passed is not None, output
    assert int(passed[1]) == (11 if wire in ("anthropic", "responses") else 12), output


def test_node_lock_pins_client_without_host_names() -> None:
    wanted = json.loads((PROJECT / "package.json").read_text())["dependencies"]
    text = LOCK.read_text()
    packages = json.loads(text)["packages"]
    assert "://" not in text
    for name, version in wanted.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), f"{name} is not pinned exactly"
        assert packages[f"node_modules/{name}"]["version"] == version
    assert all(package.get("integrity") for path, package in packages.items() if path)
