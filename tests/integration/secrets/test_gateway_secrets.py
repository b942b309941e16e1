"""The gateway and its secret store: what stops the start, what a rotation and an outage look like from outside.

`OPENBAO_OUTAGE_SECONDS` says how long OpenBao is away (3 without it; 60 is the promise).
"""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from apps.provider_simulator.record import credential_digest
from apps.provider_simulator.server import ProviderSimulator
from tests.conftest import Platform
from tests.support.commands.command_line import check_marks, cli
from tests.support.gateway.http import PATIENT_SECONDS, live_workers, metric_becomes, until
from tests.support.gateway.process import Gateway
from tests.support.servers.network.ports import free_port
from tests.support.servers.openbao import ROOT_TOKEN, OpenBao

OUTAGE_SECONDS = float(os.environ.get("OPENBAO_OUTAGE_SECONDS", "3"))
OLD, NEW, NEWEST = "sk-canary-old-51c09d7e", "sk-canary-new-8a3b6f20", "sk-canary-newest-e47d1c95"
IN_ENVIRONMENT = "sk-canary-of-the-environment"
"""Set wherever another store is chosen: it must never be used."""


@pytest.fixture
def bare(platform: Platform) -> dict[str, str]:
    """The gateway's environment with no usable secret in it, but one that a fallback would find."""
    environment = {**platform.environment, "OPENAI_API_KEY": IN_ENVIRONMENT}
    del environment["PLATFORM_API_KEY_PEPPER"]
    return environment


@pytest.fixture
def pepper(platform: Platform) -> str:
    return platform.environment["PLATFORM_API_KEY_PEPPER"]


def write(directory: Path, **secrets: str) -> None:
    """As an operator does who knows what he does: each file appears whole."""
    directory.mkdir(exist_ok=True)
    for name, text in secrets.items():
        new = directory / f".{name}.new"
        new.touch(mode=0o600)
        new.write_text(text)
        new.rename(directory / name)


def worker_of(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a worker without a parent until its start has failed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return subprocess.run(
            [sys.executable, "-m", "apps.platform_api", str(listening.fileno())],
            env=environment,
            pass_fds=[listening.fileno()],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


class TestStart:
    def file_store(self, bare: dict[str, str], directory: Path) -> dict[str, str]:
        return bare | {"PLATFORM_SECRET_PROVIDER": "file", "PLATFORM_SECRET_FILE_DIR": str(directory)}

    def test_missing_files_are_listed_by_provider_name_and_store(self, bare: dict[str, str], tmp_path: Path) -> None:
        outcome = cli(self.file_store(bare, tmp_path), "serve", "--port", str(free_port()))
        assert outcome.code == 2
        assert re.findall(r"^  - (.*)$", outcome.err, re.MULTILINE) == [
            "API key pepper, secret 'PLATFORM_API_KEY_PEPPER', store 'file': "
            f"there is no file {tmp_path}/PLATFORM_API_KEY_PEPPER; mount or write it",
            "provider 'simulator', secret 'OPENAI_API_KEY', store 'file': "
            f"there is no file {tmp_path}/OPENAI_API_KEY; mount or write it",
        ]

    def test_serve_world_readable_secret_file_refuses_start(
        self, bare: dict[str, str], pepper: str, tmp_path: Path
    ) -> None:
        write(tmp_path, PLATFORM_API_KEY_PEPPER=pepper, OPENAI_API_KEY=OLD)
        (tmp_path / "OPENAI_API_KEY").chmod(0o644)
        outcome = cli(self.file_store(bare, tmp_path), "serve", "--port", str(free_port()))
        assert outcome.code == 2
        assert f"chmod o-rwx {tmp_path}/OPENAI_API_KEY" in outcome.err
        assert OLD not in outcome.all

    def test_serve_unavailable_vault_ends_after_the_wait(self, bare: dict[str, str]) -> None:
        vault = {
            "PLATFORM_SECRET_PROVIDER": "vault",
            "PLATFORM_VAULT_ADDR": f"http://127.0.0.1:{free_port()}",
            "PLATFORM_VAULT_TOKEN": ROOT_TOKEN,
        }
        outcome = cli(bare | vault, "serve", "--port", str(free_port()))
        assert outcome.code == 1, "systemd starts it again, which it does not after 2"
        problems = re.findall(r"^  - (.*)$", outcome.err, re.MULTILINE)
        assert len(problems) == 2
        for problem in problems:
            assert f"store 'vault': Vault at {vault['PLATFORM_VAULT_ADDR']} does not respond: it refuses" in problem
            assert "check that it runs, and that PLATFORM_VAULT_ADDR names its host and its port" in problem
        assert ROOT_TOKEN not in outcome.all

    def test_worker_without_vault_exits_with_3(self, bare: dict[str, str], tmp_path: Path) -> None:
        """The parent tries again, and its own exit code after five attempts is not that of an invalid configuration."""
        vault = {
            "PLATFORM_SECRET_PROVIDER": "vault",
            "PLATFORM_VAULT_ADDR": f"http://127.0.0.1:{free_port()}",
            "PLATFORM_VAULT_TOKEN": ROOT_TOKEN,
        }
        assert worker_of(bare | vault | {"PLATFORM_SPOOL_DIR": str(tmp_path / "spool")}).returncode == 3

    def test_serve_missing_store_setting_refuses_start(self, bare: dict[str, str]) -> None:
        outcome = cli(bare | {"PLATFORM_SECRET_PROVIDER": "vault"}, "serve")
        assert outcome.code == 2
        assert "also needs PLATFORM_VAULT_ADDR, PLATFORM_VAULT_TOKEN or PLATFORM_VAULT_TOKEN_FILE" in outcome.err

    async def test_check_has_a_line_for_each(self, bare: dict[str, str], pepper: str, tmp_path: Path) -> None:
        write(tmp_path, PLATFORM_API_KEY_PEPPER=pepper)
        outcome = await asyncio.to_thread(cli, self.file_store(bare, tmp_path), "check", "--no-live")
        assert outcome.code == 1
        marks = check_marks(outcome)
        assert (marks["secret of the pepper"], marks["secret of simulator"]) == ("ok", "FAIL")
        assert "provider simulator" not in marks
        assert f"'OPENAI_API_KEY' in the store 'file': there is no file {tmp_path}/OPENAI_API_KEY" in outcome.out

    def test_worker_without_secret_exits_with_2(self, bare: dict[str, str], tmp_path: Path) -> None:
        spool = {"PLATFORM_SPOOL_DIR": str(tmp_path / "spool")}
        done = worker_of(self.file_store(bare, tmp_path / "none") | spool)
        assert done.returncode == 2, done.stdout + done.stderr
        (said,) = [line for line in done.stdout.splitlines() if '"configuration_not_valid"' in line]
        assert "provider 'simulator', secret 'OPENAI_API_KEY', store 'file'" in said


@dataclass
class Traffic:
    """Chats one after the other, for as long as the block lasts."""

    statuses: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def running(self, gateway: Gateway, key: str) -> AsyncIterator[None]:
        async def chat() -> None:
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(timeout=300, trust_env=False, headers=headers) as client:
                while True:
                    answer = await client.post(gateway.chat_url, json={"prompt": "hi"})
                    self.statuses.append(answer.status_code)
                    await asyncio.sleep(0.02)

        chatting = asyncio.create_task(chat())
        try:
            yield
        finally:
            chatting.cancel()
            (end,) = await asyncio.gather(chatting, return_exceptions=True)
            assert isinstance(end, asyncio.CancelledError), end


async def until_used(simulator: ProviderSimulator, key: str) -> None:
    """Wait for the provider to see this credential. How soon a value is refreshed is tested with a fake clock
    (tests/unit/platform_app/secret_store/test_cache.py)."""
    async with asyncio.timeout(PATIENT_SECONDS):
        while [record.credential for record in simulator.requests("sim-ok")[-1:]] != [credential_digest(key)]:
            await asyncio.sleep(0.02)


async def until_metric(gateway: Gateway, pattern: str) -> None:
    async with asyncio.timeout(PATIENT_SECONDS):
        while not re.search(pattern, await asyncio.to_thread(gateway.metrics), re.MULTILINE):
            await asyncio.sleep(0.1)


def shows_nothing(gateway: Gateway, *secrets: str) -> None:
    text = gateway.log_file.read_text()
    for secret in secrets:
        assert secret not in text


async def test_gateway_changed_secret_file_is_used_without_restart(
    bare: dict[str, str], pepper: str, chat_key: str, simulator: ProviderSimulator, tmp_path: Path
) -> None:
    directory = tmp_path / "secrets"
    write(directory, PLATFORM_API_KEY_PEPPER=pepper, OPENAI_API_KEY=OLD)
    environment = bare | {"PLATFORM_SECRET_PROVIDER": "file", "PLATFORM_SECRET_FILE_DIR": str(directory)}
    with Gateway(environment, tmp_path) as gateway:
        traffic = Traffic()
        async with traffic.running(gateway, chat_key):
            await until_used(simulator, OLD)
            write(directory, OPENAI_API_KEY=NEW)
            await until_used(simulator, NEW)
    assert set(traffic.statuses) == {200}
    shows_nothing(gateway, OLD, NEW, pepper)


@pytest.fixture
def bao(tmp_path: Path, pepper: str) -> Iterator[OpenBao]:
    """With what the gateway needs."""
    (tmp_path / "bao").mkdir()
    with OpenBao(tmp_path / "bao") as running:
        running.put("gateway/PLATFORM_API_KEY_PEPPER", pepper)
        running.put("gateway/OPENAI_API_KEY", OLD)
        yield running


def test_commands_read_secret_store_without_log_output(bare: dict[str, str], bao: OpenBao, tmp_path: Path) -> None:
    bao.policy("gateway", "secret/data/gateway/*")
    role_id, secret_id = bao.approle(token_policies=["gateway"])
    write(tmp_path / "files", secret_id=secret_id)
    environment = bare | {
        "PLATFORM_SECRET_PROVIDER": "vault",
        "PLATFORM_VAULT_ADDR": bao.address,
        "PLATFORM_VAULT_PATH_PREFIX": "gateway",
        "PLATFORM_VAULT_AUTH": "approle",
        "PLATFORM_VAULT_ROLE_ID": role_id,
        "PLATFORM_VAULT_SECRET_ID_FILE": str(tmp_path / "files" / "secret_id"),
    }
    made = cli(environment, "keys", "create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--json")
    assert made.code == 0, made.all
    assert made.json["key"].startswith("fbp_test_")
    assert made.err == ""
    left = bao.call("LIST", "auth/token/accessors")["data"]["keys"]
    assert len(left) == 1, "the root token; the command's own is revoked"
    bao.policy("gateway", "secret/data/elsewhere/*")
    refused = cli(environment, "keys", "create", "--name", "n", "--owner", "o", "--scope", "platform:chat", "--json")
    assert (refused.code, refused.out) == (2, "")
    assert "does not let us read secret/data/gateway/PLATFORM_API_KEY_PEPPER (403)" in refused.err
    assert secret_id not in refused.all


@pytest.mark.timeout(600 + 4 * OUTAGE_SECONDS)
async def test_rotation_in_openbao_and_an_outage_of_it_fail_no_request(
    bare: dict[str, str], pepper: str, chat_key: str, simulator: ProviderSimulator, bao: OpenBao, tmp_path: Path
) -> None:
    # So that twice the TTL is longer than a value's age at the stop, the outage and the start, on a busy machine too.
    ttl = OUTAGE_SECONDS + 9
    environment = bare | {
        "PLATFORM_SECRET_PROVIDER": "vault",
        "PLATFORM_SECRET_TTL_SECONDS": str(ttl),
        "PLATFORM_VAULT_ADDR": bao.address,
        "PLATFORM_VAULT_TOKEN": ROOT_TOKEN,
        "PLATFORM_VAULT_PATH_PREFIX": "gateway",
    }
    with Gateway(environment, tmp_path) as gateway:
        traffic = Traffic()
        async with traffic.running(gateway, chat_key):
            await until_used(simulator, OLD)
            bao.put("gateway/OPENAI_API_KEY", NEW)
            await until_used(simulator, NEW)
            await asyncio.to_thread(bao.stop)
            stopped = time.monotonic()
            await until_metric(gateway, r"^platform_secrets_stale 2\.0$")
            await asyncio.sleep(stopped + OUTAGE_SECONDS - time.monotonic())
            age = re.search(r"^platform_secret_age_seconds (\S+)$", gateway.metrics(), re.MULTILINE)
            assert age is not None
            assert OUTAGE_SECONDS - 1.5 < float(age[1]) < 2 * ttl
            await asyncio.to_thread(bao.start)
            bao.put("gateway/PLATFORM_API_KEY_PEPPER", pepper)
            bao.put("gateway/OPENAI_API_KEY", NEWEST)
            await until_used(simulator, NEWEST)
            await until_metric(gateway, r"^platform_secrets_stale 0\.0$")
    assert set(traffic.statuses) == {200}
    assert len(traffic.statuses) > 50
    shows_nothing(gateway, OLD, NEW, NEWEST, pepper, ROOT_TOKEN)
    events = [line["event"] for line in gateway.log_lines() if line.get("component") == "secrets"]
    assert events.count("secret_refresh_recovered") == 2
    assert 2 <= events.count("secret_refresh_failed") <= 4, (
        "for each: down, and maybe missing until it is written again"
    )


async def test_replaced_worker_waits_for_the_secret_store(
    bare: dict[str, str], chat_key: str, bao: OpenBao, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """It has no last values, and a store that restarts must not end the gateway."""
    environment = bare | {
        "PLATFORM_SECRET_PROVIDER": "vault",
        "PLATFORM_START_TIMEOUT_SECONDS": "60",
        "PLATFORM_VAULT_ADDR": bao.address,
        "PLATFORM_VAULT_TOKEN": ROOT_TOKEN,
        "PLATFORM_VAULT_PATH_PREFIX": "gateway",
    }

    def awaited() -> bool:
        lines = [line for line in gateway.log_lines() if line["event"] == "dependency_awaited"]
        return "secret store" in [line["dependency"] for line in lines]

    with Gateway(environment, tmp_path) as gateway:
        bao.pause()
        os.kill(live_workers(gateway)[0], signal.SIGKILL)
        await until(awaited)
        bao.resume()
        await metric_becomes(gateway, 1, "platform_workers_ready")
        headers = {"Authorization": f"Bearer {chat_key}"}
        chat = await client.post(gateway.chat_url, json={"prompt": "hello"}, headers=headers)
    assert chat.status_code == 200
