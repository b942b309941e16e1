"""The official `openai` package for JavaScript: node/scenario.mjs, against the gateway.

What npm installs is pinned by node/package-lock.json and kept in the virtual environment. The client wants Node.js 22,
which not every system has: then the one from the lock runs it.
"""

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.clients.conftest import ALIAS, AZURE, BURST, CLAUDE, EMBEDDING, SCOPES, SLOW_FOR_NODE
from tests.conftest import Platform
from tests.support.gateway import Gateway

HERE = Path(__file__).parent / "node"
LOCK = HERE / "package-lock.json"
INSTALL_SECONDS = 100
SCENARIO_SECONDS = 60
WANTED_NODE = 22


def installed() -> tuple[Path, str]:
    """The directory with the packages, and the Node.js to run them. Skips where npm or its registry is missing."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("node and npm are not installed (Debian: apt-get install nodejs npm)")
    own = _major(node) < WANTED_NODE
    digest = hashlib.sha256(LOCK.read_bytes() + bytes([own])).hexdigest()[:12]
    directory = Path(sys.prefix) / f"npm-{digest}"
    if not (directory / "complete").exists():
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, directory)
        options = ["--ignore-scripts", "--no-audit", "--no-fund", *([] if own else ["--omit=optional"])]
        done = subprocess.run(
            [npm, "ci", *options], cwd=directory, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
        if done.returncode != 0:
            pytest.skip(f"npm ci failed: {done.stderr[-500:]}")
        (directory / "complete").touch()
    binaries = sorted(directory.glob("node_modules/node-linux-*/bin/node"))
    return directory, str(binaries[0]) if binaries else node


def _major(node: str) -> int:
    shown = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    return int(shown.strip().removeprefix("v").split(".")[0])


async def test_a_whole_scenario(
    served: Gateway, house: Platform, api_key: str, simulator: ProviderSimulator
) -> None:
    directory, node = await asyncio.to_thread(installed)
    environment = {
        "PATH": os.environ["PATH"],
        "PLATFORM_BASE_URL": f"{served.base_url}/v1",
        "PLATFORM_KEY": api_key,
        "PLATFORM_LIMITED_KEY": house.key(*SCOPES, limits={BURST: 1}),
        "MODELS": json.dumps([["sim-ok", ALIAS, AZURE, CLAUDE], ["sim-ok", ALIAS, AZURE], EMBEDDING]),
    }
    process = await asyncio.create_subprocess_exec(
        node, str(HERE / "scenario.mjs"), str(directory), env=environment, cwd=directory,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await asyncio.wait_for(process.communicate(), SCENARIO_SECONDS)
    assert process.returncode == 0, output.decode()
    assert len(output.splitlines()) == len(re.findall(r"^await step\(", (HERE / "scenario.mjs").read_text(), re.M)) + 27
    await simulator.wait_for_outcome(SLOW_FOR_NODE, "client_closed")


def test_the_lock_pins_and_names_no_host() -> None:
    text = LOCK.read_text() + (HERE / "package.json").read_text()
    assert "://" not in text
    assert '"resolved"' not in text
    lock = json.loads(LOCK.read_text())["packages"]
    asked = json.loads((HERE / "package.json").read_text())
    for name, version in {**asked["dependencies"], **asked["optionalDependencies"]}.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
        assert lock[f"node_modules/{name}"]["version"] == version
    assert all(package["integrity"].startswith("sha512-") for path, package in lock.items() if path)
