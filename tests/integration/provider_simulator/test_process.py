"""The simulator as a separate process."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.support.providers.simulator_requests import AUTH, ask, chat, collect, data_lines, raw_request


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    return tmp_path / "ready.json"


@dataclass(frozen=True)
class Process:
    """A simulator in a separate process that listens."""

    handle: asyncio.subprocess.Process
    base_url: str

    @property
    def admin_url(self) -> str:
        return self.base_url.removesuffix("/v1") + "/_sim"


def start(*arguments: str) -> Coroutine[Any, Any, asyncio.subprocess.Process]:
    pipe = asyncio.subprocess.PIPE
    return asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "apps.provider_simulator", *arguments), stdout=pipe, stderr=pipe
    )


def loaded(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.fixture
async def process(ready_file: Path) -> AsyncIterator[Process]:
    handle = await start("--port", "0", "--ready-file", str(ready_file))
    try:
        assert handle.stdout is not None
        line = (await asyncio.wait_for(handle.stdout.readline(), 60)).decode()
        ready = loaded(ready_file)
        assert set(ready) == {"base_url", "refused_url", "pid"}
        assert ready["pid"] == handle.pid
        assert line == f"provider simulator ready at {ready['base_url']}\n"
        yield Process(handle, ready["base_url"])
    finally:
        if handle.returncode is None:
            handle.kill()
        await handle.communicate()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from Linux's /proc")
async def test_process_pours_without_holding(process: Process) -> None:
    pid = process.handle.pid
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        await ask(http)
        before = peak = resident_bytes(pid)
        for fault, stream in (("huge-body", False), ("huge-body", True), ("huge-line", True)):
            received = 0
            async with http.stream("POST", "/chat/completions", json=chat(f"sim-{fault}", stream=stream)) as response:
                async for part in response.aiter_raw():
                    received += len(part)
                    peak = max(peak, resident_bytes(pid))
                    if received > 32 * 1024 * 1024:
                        break
    assert peak - before < 8 * 1024 * 1024


@pytest.mark.parametrize("model", ["sim-hang", "sim-delay-60000", "sim-stream-hang", "sim-huge-line"])
async def test_process_notices_a_leaving_client_at_once(process: Process, model: str) -> None:
    """Its event loop is another one than the tests'."""
    url = httpx.URL(process.base_url)
    connection = socket.create_connection((url.host, url.port or 0))
    connection.sendall(raw_request(chat(model, stream=True)))
    await until_open(process)
    connection.close()
    async with httpx.AsyncClient(base_url=process.admin_url) as admin:
        while True:  # of these models none ends by itself for a minute
            (record,) = (await admin.get("/requests")).json()
            if record["outcome"] == "client_closed":
                break
            assert record["outcome"] == "open"
            await asyncio.sleep(0.02)


async def test_process_flushes_before_it_drops(process: Process) -> None:
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        received: list[str] = []
        async with http.stream("POST", "/chat/completions", json=chat("sim-stream-drop", stream=True)) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                await collect(response.aiter_text(), received)
        assert len(data_lines("".join(received))) == 2
        received.clear()
        async with http.stream("POST", "/chat/completions", json=chat("sim-drop-mid-body")) as response:
            with pytest.raises(httpx.RemoteProtocolError):
                await collect(response.aiter_text(), received)
        assert "".join(received).startswith('{"id"')


async def until_open(process: Process) -> None:
    """Wait until the simulator works on a request."""
    async with httpx.AsyncClient(base_url=process.admin_url) as admin, asyncio.timeout(300):
        while "open" not in [record["outcome"] for record in (await admin.get("/requests")).json()]:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_process_stops_on_a_signal_although_requests_hang(process: Process, number: signal.Signals) -> None:
    async with httpx.AsyncClient(base_url=process.base_url, headers=AUTH) as http:
        hanging = asyncio.create_task(http.post("/chat/completions", json=chat("sim-hang"), timeout=300))
        await until_open(process)
        process.handle.send_signal(number)
        assert await asyncio.wait_for(process.handle.wait(), 60) == 0
        with pytest.raises(httpx.HTTPError):
            await hanging
    assert process.handle.stderr is not None
    assert await process.handle.stderr.read() == b""


async def test_process_says_in_one_line_that_its_port_is_in_use(sim: ProviderSimulator) -> None:
    refused = await start("--port", str(sim.port))
    out, err = await asyncio.wait_for(refused.communicate(), 60)
    assert (refused.returncode, out) == (2, b"")
    assert err.decode() == f"provider simulator cannot listen on 127.0.0.1:{sim.port}: the port is in use\n"
