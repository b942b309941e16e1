"""Generate load with wrk if it is installed, else with a small aiohttp client (slower, so ratios are smaller)."""

import asyncio
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp


@dataclass(frozen=True)
class Result:
    """The figures of one round against one address."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    failures: int


def run_load(url: str, headers: Mapping[str, str], body: str, connections: int, seconds: float) -> Result:
    """Send the same POST repeatedly, on `connections` connections, for `seconds`."""
    if shutil.which("wrk"):
        return _wrk(url, headers, body, connections, seconds)
    return asyncio.run(_aiohttp(url, headers, body, connections, seconds))


def _wrk(url: str, headers: Mapping[str, str], body: str, connections: int, seconds: float) -> Result:
    lines = ['wrk.method = "POST"', f"wrk.body = [==[{body}]==]"]
    lines += [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
    lines += [
        "done = function(summary, latency, requests)",
        "  local e = summary.errors",
        "  local failed = e.connect + e.read + e.write + e.status + e.timeout",
        '  io.write(string.format("RESULT %f %f %f %d\\n", summary.requests / (summary.duration / 1e6),',
        "    latency:percentile(50) / 1000, latency:percentile(99) / 1000, failed))",
        "end",
    ]
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "post.lua"
        script.write_text("\n".join(lines))
        duration = f"{max(1, round(seconds))}s"
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "-s", str(script), url],
            capture_output=True, text=True, check=True, timeout=seconds + 30,
        )  # fmt: skip
    match = re.search(r"RESULT (\S+) (\S+) (\S+) (\d+)", done.stdout)
    assert match, done.stdout
    return Result(float(match[1]), float(match[2]), float(match[3]), int(match[4]))


async def _aiohttp(url: str, headers: Mapping[str, str], body: str, connections: int, seconds: float) -> Result:
    latencies: list[float] = []
    failures = 0
    ends_at = time.perf_counter() + seconds

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal failures
        while (started := time.perf_counter()) < ends_at:
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()
                failures += response.status != 200
            latencies.append(time.perf_counter() - started)

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
        async with asyncio.timeout(seconds + 30):
            await asyncio.gather(*(client(session) for _ in range(connections)))
    cuts = statistics.quantiles(latencies, n=100)
    return Result(len(latencies) / seconds, cuts[49] * 1000, cuts[98] * 1000, failures)
