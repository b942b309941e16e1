"""`flowbiz-platform smoke` against a real gateway: healthy, and broken in one way by a proxy in front of it."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from apps.platform_cli.smoke.checks import CHECKS, run_checks
from apps.platform_cli.smoke.session import SmokeOptions
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.commands.command_line import run_command
from tests.support.gateway.process import Gateway, write_config
from tests.support.observability.tracing.otlp import http_receiver
from tests.support.servers.network.breaking_proxy import FAULTS, breaking_proxy

SHA = "0123456789abcdef0123456789abcdef01234567"
DEADLINE_SECONDS = 300.0
RULES = {"rules": [{"name": "key-rpm", "scope": "key", "limit": 6000, "window_seconds": 60}]}
RECORDS = {"metrics", "trace", "audit", "usage"}
"""Checks that wait for what the gateway writes in the background; a busy machine's gateway may write it late."""
BROKEN = {
    # fault: the failed check, what it received
    "other_commit": ("commit", f"build_sha {'f' * 40}"),
    "auth_off": ("credentials", "200 "),
    "any_key": ("credentials", "200 "),
    "lying_readiness": ("readiness", '200 {"status": "ready", "checks": []}'),
    "hung_chat": ("chat", "no result: the deadline of 5 s passed"),
    "other_model": ("chat", "a response of the model sim-other"),
    "no_limit_headers": ("limit headers", "without ratelimit-policy"),
    "cut_stream": ("stream", "1 events, the last one delta"),
    "unended_stream": ("stream", "1 events, the last one delta"),
    "no_embeddings": ("embeddings", "404 not_found: no such route"),
    "frozen_metrics": ("metrics", ""),
    "no_traces": ("trace", "0 exported"),
    "no_audit": ("audit", "no entry"),
    "no_usage": ("usage", " requests"),
}


@dataclass(frozen=True)
class Target:
    """The gateway with an administrator's key and one that may only chat."""

    gateway: Gateway
    key: str
    chat_key: str

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.gateway.metrics_port}/metrics"

    def smoke(self, key: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run the command."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PLATFORM_BASE_URL": self.gateway.base_url,
            "PLATFORM_CHAT_KEY": key,
            "PLATFORM_METRICS_URL": self.metrics_url,
        }
        waits = ["--timeout", str(DEADLINE_SECONDS), "--record-seconds", "120"]
        return run_command(environment, "smoke", *waits, *arguments, seconds=600)


@pytest.fixture(scope="module")
def target(
    platform: Platform, tmp_path_factory: pytest.TempPathFactory, simulator: ProviderSimulator
) -> Iterator[Target]:
    """A gateway that exports its traces to a receiver."""
    directory = tmp_path_factory.mktemp("smoke")
    models = {"sim-ok": "sim-ok", "sim-embedding": "text-embedding-3-small"}
    config = write_config(directory / "platform.yaml", simulator.base_url, models, rate_limits=RULES)
    with http_receiver() as collector:
        environment = {
            **platform.environment,
            "PLATFORM_CONFIG_FILE": str(config),
            "PLATFORM_BUILD_SHA": SHA,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
        with Gateway(environment, directory) as gateway:
            yield Target(gateway, platform.key("platform:*"), platform.key("platform:chat"))


async def test_smoke_passes_on_a_real_gateway(target: Target) -> None:
    done = await asyncio.to_thread(target.smoke, target.key, "--expect-sha", SHA, "--json")
    found = json.loads(done.stdout)
    assert [(check["name"], check["status"]) for check in found["checks"]] == [(name, "passed") for name in CHECKS]
    assert (done.returncode, found["ok"]) == (0, True)


async def test_smoke_with_chat_key_skips_what_it_may_not(target: Target) -> None:
    done = await asyncio.to_thread(target.smoke, target.chat_key)
    assert "11 passed, 0 failed, 2 skipped" in done.stdout, done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("fault", BROKEN)
async def test_smoke_names_what_a_proxy_breaks(fault: str, target: Target) -> None:
    name, received = BROKEN[fault]
    async with breaking_proxy(target.gateway.base_url, target.metrics_url, target.key, fault) as proxy:
        options = SmokeOptions(
            proxy.url, target.key, expect_sha=SHA, metrics_url=f"{proxy.url}/metrics", model="sim-ok",
            timeout_seconds=5 if fault == "hung_chat" else DEADLINE_SECONDS, record_seconds=2,
        )  # fmt: skip
        results = {result.name: result async for result in run_checks(options)}
    failed = {each.name: each.detail for each in results.values() if each.status == "failed"}
    if fault == "hung_chat" and not proxy.hung:  # on a machine that stops, the deadline passes in an earlier check
        assert len(failed) == 1
        return
    assert name in failed
    assert received in failed[name], failed
    assert failed.keys() - RECORDS <= {name}, failed


def test_smoke_proxy_fault_list_is_complete() -> None:
    assert set(BROKEN) == set(FAULTS)
    assert len(BROKEN) >= 10
