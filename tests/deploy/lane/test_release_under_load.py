"""From a commit to a running, smoked release of two instances behind nginx; another release and a rollback under load.

`make proofs` runs a short form. `make lane` runs it with 50 streaming clients and 50 requests a second.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.deploy.lane_host import LaneHost
from tests.support.deploy.load import load_on
from tests.support.gateway.process import write_config
from tests.support.paths import ROOT

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="needs nginx (Debian's package nginx-light)"),
]
WHOLE = os.environ.get("LANE_WHOLE") == "1"
STREAMS, RATE = (50, 50.0) if WHOLE else (10, 10.0)
STREAM_MODEL = "sim-slow-stream-700"
MODELS = {name: name for name in ("sim-ok", STREAM_MODEL)} | {"sim-embedding": "text-embedding-3-small"}
LIMITS = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 1_000_000, "window_seconds": 60}]}


@pytest.fixture
def host(platform: Platform, simulator: ProviderSimulator, tmp_path: Path) -> Iterator[LaneHost]:
    config = write_config(tmp_path / "platform.yaml", simulator.base_url, MODELS, rate_limits=LIMITS)
    environment = {
        **{name: value for name, value in platform.environment.items() if name != "PATH"},
        "PLATFORM_CONFIG_FILE": str(config),
        "PLATFORM_WORKERS": "1",
    }
    host = LaneHost(tmp_path, environment, platform.key("platform:*"))
    host.write()
    yield host
    host.stop_instances()


def commits(directory: Path) -> tuple[Path, str, str]:
    """A clone of this project with a second commit, and both commits."""
    clone = directory / "clone"
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@flowbiz.example"]
    subprocess.run([*git, "clone", "--quiet", "--shared", str(ROOT), str(clone)], check=True)
    version = clone / "apps" / "platform_api" / "version.py"
    version.write_text(version.read_text().replace("version(SERVICE)", 'version(SERVICE) + "+second"'))
    subprocess.run([*git, "-C", str(clone), "commit", "--quiet", "-am", "Show another version"], check=True)
    found = subprocess.run(
        ["git", "-C", str(clone), "rev-parse", "HEAD~1", "HEAD"], capture_output=True, text=True, check=True
    )
    first, second = found.stdout.split()
    return clone, first, second


@pytest.mark.timeout(1800)  # thirteen starts of Python programs and ten of gateways, on a machine that does more
async def test_release_and_rollback_break_no_request(
    host: LaneHost, platform: Platform, tmp_path: Path, show_figure: Callable[[str], None]
) -> None:
    """Not one broken stream and not one failed request."""
    clone, first, second = await asyncio.to_thread(commits, tmp_path)
    for commit in (first, second):
        await asyncio.to_thread(host.add_release, commit, clone)
    with host.nginx():
        times = {"first release": await timed(host, "release", first)}
        assert await asyncio.to_thread(host.build_sha) == first
        key = platform.key("platform:chat")
        async with load_on(
            host.port, key, stream_model=STREAM_MODEL, model="sim-ok", streams=STREAMS, rate=RATE
        ) as load:
            times["second release"] = await timed(host, "release", second)
            assert await asyncio.to_thread(host.build_sha) == second
            times["rollback"] = await timed(host, "rollback")
            assert await asyncio.to_thread(host.build_sha) == first
    assert load.failures == []
    assert load.done["streams"] >= STREAMS
    assert load.done["requests"] >= 1
    log = [json.loads(line) for line in (host.root / "lane" / "releases.log").read_text().splitlines()]
    assert [(line["action"], line["to"], line["result"]) for line in log if line["result"] != "started"] == [
        ("release", first, "done"),
        ("release", second, "done"),
        ("rollback", first, "done"),
    ]
    figures = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
    show_figure(f"{figures}; {load.done['streams']} streams and {load.done['requests']} requests, 0 failed")


async def timed(host: LaneHost, *arguments: str) -> float:
    """Run the lane, and return the seconds until all traffic is on the release (before old instances end)."""
    started = time.monotonic()
    done = await asyncio.to_thread(host.lane, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    retire = re.search(r"\] retire: .*\n.*\(([\d.]+) s\)", done.stdout)
    assert retire is not None, done.stdout
    return time.monotonic() - started - float(retire[1])
