"""`flowbiz-platform dev` from start to end, as a separate process, on real servers."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from apps.platform_cli.dev import files as dev_files
from apps.platform_cli.dev.address import CannotStartError, checked_url, choose_address, last_port
from apps.platform_cli.dev.console import curl_command
from apps.platform_cli.embedded import processes
from apps.provider_simulator.faults.catalog import MODELS
from platform_app.config import PlatformConfig
from tests.support.commands.dev_process import COMMAND, Dev, all_gone, clean_environment
from tests.support.servers.network.ports import free_port


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short directory of mode 0700, as `mktemp -d` makes it; pytest's own paths are long."""
    with tempfile.TemporaryDirectory(prefix="fb") as path:
        yield Path(path)


def test_data_directory_serves_several_starts(directory: Path) -> None:
    ports = [free_port(), free_port()]
    runs = []
    try:
        # A cold start, from which everything printed and written works.
        first = Dev(directory, ports)
        runs.append(first)
        first.wait_ready()
        answer = first.ask()
        assert answer.status_code == 200, answer.text
        first_output, first_env = first.output, first.env
        assert stat.S_IMODE((first.data_dir / "dev.env").stat().st_mode) == 0o600
        assert first_env["OPENAI_API_KEY"].startswith("sk-sim-")
        assert httpx.get(first_env["PLATFORM_METRICS_URL"], trust_env=False).status_code == 200
        config = PlatformConfig.model_validate(yaml.safe_load((first.data_dir / "platform.yaml").read_text()))
        assert set(config.models) == {*MODELS, *dev_files.GATEWAY_MODELS}
        sourced = subprocess.run(
            ["sh", "-c", 'set -a; . "$0"; env', str(first.data_dir / "dev.env")],
            env={},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert {f"{name}={value}" for name, value in first_env.items()} <= set(sourced)

        # A second one beside it says who is there.
        second = subprocess.run(
            [*COMMAND, "--port", str(ports[0]), "--metrics-port", str(ports[1]), "--data-dir", first.data_dir],
            env=clean_environment(),
            capture_output=True,
            text=True,
        )
        assert second.returncode == 2
        assert f"process {first.process.pid} already uses the data directory" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.ask().status_code == 200

        # SIGTERM ends all of it.
        pids = first.pids
        first.process.send_signal(signal.SIGTERM)
        assert first.wait() == 0, first.output
        assert all_gone(pids, 0), first.output
        assert "Traceback" not in first.output

        # A warm start is quick and keeps data and keys, also in a shell that sourced the old dev.env.
        again = Dev(directory, ports, extra=first_env)
        runs.append(again)
        again.wait_ready()  # how fast, `.ci/check_make_run.py` measures, alone on its machine
        assert again.ask().status_code == 200
        assert {name for name in first_env if again.env[name] != first_env[name]} == set()
        assert "created a new" not in again.output
        assert first_output != again.output

        # kill -9 leaves nothing behind that stops the next start, which may come at once.
        pids = again.pids
        again.process.kill()
        again.wait()
        third = Dev(directory, ports)
        runs.append(third)
        third.wait_ready()
        assert all_gone(pids)
        assert third.ask().status_code == 200
        assert third.env["PLATFORM_CHAT_KEY"] == first_env["PLATFORM_CHAT_KEY"]

        # A process that dies is named, and the rest is stopped.
        pids = third.pids
        gateway = int(re.findall(r"^gateway.* pid (\d+)", third.output, re.MULTILINE)[0])
        os.kill(gateway, signal.SIGKILL)
        assert third.wait() == 1
        assert "the gateway ended: killed by SIGKILL" in third.output
        assert all_gone(pids)

        # Keys are created again if dev.env is lost, and if the database is lost.
        chat_keys = {first_env["PLATFORM_CHAT_KEY"]}
        for lost in ("dev.env", "postgres"):
            (first.data_dir / lost).rename(directory / lost)
            healed = Dev(directory, ports)
            runs.append(healed)
            healed.wait_ready()
            assert healed.ask().status_code == 200
            chat_keys.add(healed.env["PLATFORM_CHAT_KEY"])
            assert ("the chat key in" in healed.output) is (lost == "postgres"), healed.output
            healed.process.send_signal(signal.SIGINT)
            assert healed.wait() == 0
        assert len(chat_keys) == 3
    finally:
        for run in runs:
            run.end()


def test_real_provider_key_is_used_and_never_written(directory: Path) -> None:
    real = "sk-proj-of-a-person"
    run = Dev(directory, [free_port(), free_port()], extra={"OPENAI_API_KEY": real})
    try:
        run.wait_ready()
        assert "https://api.openai.com/v1" in run.output
        assert "simulator" not in run.output
        env_file = run.data_dir / "dev.env"
        assert "OPENAI_API_KEY" not in run.env
        assert "# OPENAI_API_KEY is that of the shell" in env_file.read_text()
        assert run.env["PLATFORM_DEFAULT_MODEL"] == "gpt-4o-mini"
        for path in run.data_dir.rglob("*"):
            if path.is_file():
                assert real.encode() not in path.read_bytes(), path
        run.process.send_signal(signal.SIGTERM)
        assert run.wait() == 0
    finally:
        run.end()


def test_ctrl_c_before_it_is_ready_leaves_nothing(directory: Path) -> None:
    run = Dev(directory, [free_port(), free_port()])
    try:
        while not (run.data_dir / "simulator.pid").exists():
            assert run.process.poll() is None, run.output
            time.sleep(0.01)
        children = processes.descendants(run.process.pid)
        run.process.send_signal(signal.SIGINT)
        assert run.wait() == 0, run.output
        assert all_gone(children, 0)
        assert "Traceback" not in run.output
        assert not (run.data_dir / "simulator.pid").exists()
    finally:
        run.end()


def test_second_ctrl_c_kills_at_once() -> None:
    script = """
import sys, time
from apps.platform_cli.dev.signals import StopSignals
from apps.platform_cli.embedded.child import ChildProcess
child = ChildProcess("x", [sys.executable, "-S", "-c", "import time; time.sleep(60)"], death_signal=None)
with StopSignals(lambda: [child.pid]) as signals:
    print(child.pid, flush=True)
    while signals.requested is None:
        time.sleep(0.01)
    print(signals.requested.name, flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "SIGINT\n"
        process.send_signal(signal.SIGINT)  # the same one, passed on twice
        time.sleep(0.7)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert processes.wait_gone(child, 60)


@pytest.mark.parametrize(("index", "flag"), [(0, "--port"), (1, "--metrics-port")])
def test_port_in_use_is_named_in_message(directory: Path, index: int, flag: str) -> None:
    ports = [free_port(), free_port()]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[index]))
        taken.listen(1)
        run = Dev(directory, ports)
        assert run.wait() == 2
    assert f"port {ports[index]} on 127.0.0.1 is in use" in run.output
    assert f"choose another with {flag}" in run.output
    assert "Traceback" not in run.output
    assert not (run.data_dir / "postgres").exists()


@pytest.mark.parametrize(
    ("arguments", "extra", "message"),
    [
        (["--provider-url", "ftp://x"], {}, "--provider-url: expected an http:// or https:// URL with a host"),
        (["--provider-url", "http://u:p@x"], {}, "--provider-url: expected a URL without credentials"),
        (["--provider-url", "http://x"], {"PLATFORM_CONFIG_FILE": "own.yaml"}, "PLATFORM_CONFIG_FILE is set"),
        ([], {"PLATFORM_HOST": "no.such.host.invalid"}, "PLATFORM_HOST: 'no.such.host.invalid' is not"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    directory: Path, arguments: list[str], extra: dict[str, str], message: str
) -> None:
    run = Dev(directory, [free_port(), free_port()], *arguments, extra=extra)
    assert run.wait() == 2
    assert message in run.output
    assert "Traceback" not in run.output
    assert not (run.data_dir / "postgres").exists()


# The parts, without processes


def test_one_port_for_both_is_refused() -> None:
    with pytest.raises(CannotStartError, match="are both 8100"):
        choose_address({}, 8100, 8100)
    with pytest.raises(CannotStartError, match="--port 0 is not a port"):
        choose_address({}, 0, 8100)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("0.0.0.0", "http://127.0.0.1:1"),
        ("::", "http://[::1]:1"),
        ("localhost", "http://localhost:1"),
    ],
)
def test_printed_address_can_be_reached(host: str, url: str) -> None:
    assert choose_address({"PLATFORM_HOST": host}, 1, 2).base_url == url


def test_curl_line_avoids_a_proxy() -> None:
    address = choose_address({}, 1, 2)
    assert "--noproxy" not in curl_command(address, "key", {})
    assert "--noproxy '*'" in curl_command(address, "key", {"http_proxy": "http://proxy:3128"})


def test_provider_url_loses_its_last_slash() -> None:
    assert checked_url("http://127.0.0.1:9/v1/", "--provider-url") == "http://127.0.0.1:9/v1"


def test_env_files_are_read_as_a_shell_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "dev.env"
    values = {"A": "plain", "B": "it's $HOME & `co` #1", "C": "", "D": "x=y=z", "E": "é\\n"}
    dev_files.write_env(path, values, ["a comment"])
    assert dev_files.read_env(path) == values
    dev_files.write_env(path, {"A": "again"}, [])
    assert dev_files.read_env(path) == {"A": "again"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["dev.env"]


def test_damaged_env_file_loses_only_damaged_lines(tmp_path: Path) -> None:
    path = tmp_path / "dev.env"
    path.write_bytes(b"export A=1\n B=2 # two\nC='open\nD=two words\nno assignment\n\xff=3\nE-F=4\n=5\nG=\r\n")
    assert dev_files.read_env(path) == {"A": "1", "B": "2", "G": ""}
    assert dev_files.read_env(tmp_path / "missing") == {}


@pytest.mark.parametrize(
    "catalog",
    [
        dev_files.simulator_catalog("http://127.0.0.1:1/v1"),
        dev_files.custom_catalog("https://llm.example/v1"),
        dev_files.openai_catalog("https://api.openai.com/v1"),
    ],
    ids=["simulator", "custom", "openai"],
)
def test_gateway_accepts_every_catalog(catalog: dev_files.Catalog) -> None:
    config = PlatformConfig.model_validate(yaml.safe_load(catalog.to_yaml()))
    assert catalog.default_model in config.models
    [rule] = config.rate_limits.rules
    assert (rule.scope, int(rule.limit or 0), rule.window_seconds) == ("key", 600, 60)


def test_every_model_of_the_simulator_is_served() -> None:
    catalog = dev_files.simulator_catalog("http://a/v1")
    assert all(catalog.models[name] == [("simulator", name)] for name in MODELS)
    assert catalog.providers["simulator"] == {"base_url": "http://a/v1"}
    assert catalog.addresses == ["http://a/v1", "http://a", "http://a/anthropic", "http://a/v1"]


@pytest.mark.parametrize(("key", "real"), [("", False), ("sk-sim-1", False), ("sk-proj-1", True)])
def test_dev_env_simulated_key_is_not_a_real_key(key: str, real: bool) -> None:
    assert dev_files.real_openai_key({"OPENAI_API_KEY": key}) is real
    assert not dev_files.real_openai_key({})


def test_first_model_of_user_config_file(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    assert dev_files.first_model(path) is None
    for text, expected in [("models: {a: 1, b: 2}", "a"), ("models: {}", None), ("[", None), ("1", None)]:
        path.write_text(text)
        assert dev_files.first_model(path) == expected


def test_simulator_port_of_last_start_is_used_while_free(tmp_path: Path) -> None:
    ready = tmp_path / "simulator.json"
    assert last_port(ready) == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        ready.write_text(json.dumps({"base_url": f"http://127.0.0.1:{port}/v1"}))
        assert last_port(ready) == 0, "in use"
    assert last_port(ready) == port


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"base_url": 1}', '{"base_url": "http://127.0.0.1:x/v1"}'])
def test_simulator_port_of_damaged_file_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / "simulator.json").write_text(text)
    assert last_port(tmp_path / "simulator.json") == 0
