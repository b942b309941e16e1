"""A running gateway whose config file changes: applied by watch and by SIGHUP, refused if it is invalid."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import PATIENT, Platform
from tests.support.gateway.http import live_workers, log_line, metric_becomes, until
from tests.support.gateway.process import Gateway, write_config

RULES = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 1_000_000, "window_seconds": 60}]}
TIGHT = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 1, "window_seconds": 60}]}


@pytest.fixture
def config(tmp_path: Path, simulator: ProviderSimulator) -> Path:
    return write_config(tmp_path / "platform.yaml", simulator.base_url, rate_limits=RULES, policies=PATIENT)


def replace_text(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


async def test_changed_config_file_is_applied_by_every_worker(
    platform: Platform, config: Path, simulator: ProviderSimulator, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    key = platform.key("platform:*")
    headers = {"Authorization": f"Bearer {key}"}
    models = {"sim-ok": "sim-ok", "new": "sim-ok"}
    environment = {**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}
    with Gateway(environment, tmp_path, workers=2) as gateway:

        async def names() -> set[str]:
            # A new connection for each, so that both workers get requests.
            found = set()
            for _ in range(8):
                async with httpx.AsyncClient(trust_env=False) as fresh:
                    listed = await fresh.get(f"{gateway.base_url}/v1/models", headers=headers)
                found.add(",".join(model["id"] for model in listed.json()["data"]))
            return found

        async def ask(model: str) -> httpx.Response:
            return await client.post(gateway.chat_url, headers=headers, json={"model": model, "prompt": "Hello"})

        def suspected(owner: str) -> bool:
            lines = [line for line in gateway.log_lines() if line["event"] == "owner_name_suspected"]
            return owner in [line["owner"] for line in lines]

        assert await names() == {"sim-ok"}
        assert (await ask("new")).status_code == 404
        owners = ["tests", "paymnts"]
        write_config(config, simulator.base_url, models, rate_limits=RULES, policies=PATIENT, owners=owners)
        await metric_becomes(gateway, 2, "platform_config_reloads_total", outcome="applied")
        await _becomes(names, {"new,sim-ok"})
        await until(lambda: suspected("paymnts"))
        assert (await ask("new")).json()["model"] == "new"

        # A file with a problem changes nothing, and says so; so does one whose secret is missing.
        replace_text(config, "OPENAI_API_KEY", "NO_SUCH_SECRET")
        await metric_becomes(gateway, 1, "platform_config_refused")
        assert (await ask("new")).status_code == 200
        line = await log_line(gateway, "config_reload_refused")
        assert "provider 'simulator', secret 'NO_SUCH_SECRET', store 'env'" in line["problems"][0]
        replace_text(config, "NO_SUCH_SECRET", "OPENAI_API_KEY")
        await metric_becomes(gateway, 0, "platform_config_refused")

        # Limits change too, and the counters keep their counts.
        write_config(config, simulator.base_url, rate_limits=TIGHT, policies=PATIENT)

        async def statuses() -> set[int]:
            return {(await ask("sim-ok")).status_code for _ in range(4)}

        await _becomes(statuses, {429})


async def test_sighup_reads_the_file_again(platform: Platform, config: Path, tmp_path: Path) -> None:
    environment = {**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}
    with Gateway(environment, tmp_path) as gateway:
        assert gateway.child is not None
        os.kill(gateway.child.pid, signal.SIGHUP)
        await metric_becomes(gateway, 1, "platform_config_reloads_total", outcome="applied")


@pytest.mark.parametrize(("old", "new"), [("models:", "models: ["), ("OPENAI_API_KEY", "NO_SUCH_SECRET")])
async def test_replaced_worker_uses_the_last_valid_file(
    platform: Platform, config: Path, client: httpx.AsyncClient, tmp_path: Path, old: str, new: str
) -> None:
    """A worker that dies while an operator edits the file is replaced, with the configuration that it had."""
    headers = {"Authorization": f"Bearer {platform.key()}"}
    with Gateway({**platform.environment, "PLATFORM_CONFIG_FILE": str(config)}, tmp_path) as gateway:
        replace_text(config, old, new)
        await metric_becomes(gateway, 1, "platform_config_refused")
        [worker] = live_workers(gateway)
        os.kill(worker, signal.SIGKILL)
        await metric_becomes(gateway, 1, "platform_worker_restarts_total", reason="died")
        await metric_becomes(gateway, 1, "platform_workers_ready")
        chat = await client.post(gateway.chat_url, json={"prompt": "hello", "model": "sim-ok"}, headers=headers)
        assert chat.status_code == 200
        assert live_workers(gateway) != [worker]
        await metric_becomes(gateway, 1, "platform_config_refused")
        replace_text(config, new, old)
        await metric_becomes(gateway, 0, "platform_config_refused")


async def _becomes(ask: Callable[[], Awaitable[set[Any]]], expected: set[Any]) -> None:
    async with asyncio.timeout(300):
        while await ask() != expected:
            await asyncio.sleep(0.1)
