"""The lane's parts: settings, builder, processes, imports."""

import ast
import sys
from pathlib import Path

import pytest

from apps.release_lane.commands import Finished, SystemCommands
from apps.release_lane.environment_file import parse_environment, read_environment
from apps.release_lane.errors import LaneError, UsageError
from apps.release_lane.host.addresses import Addresses
from apps.release_lane.host.builder import Builder
from apps.release_lane.host.runners.process import ProcessRunner
from apps.release_lane.host.slots import Slots
from apps.release_lane.settings import LaneSettings, read_settings
from tests.support.deploy.stand_in_commands import FIRST, StandInCommands
from tests.support.paths import ROOT
from tests.support.servers.network.ports import free_port


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unite = 'x'", "unknown key 'unite'"),
        ("runner = 'cron'", "runner is 'cron'; expected one of systemd, process"),
        ("slots = [8101, 8111]", "slots is [8101, 8111]; expected pairs of ports"),
        ("slots = []", "slots is []; expected pairs"),
        ("slots = [[8101, 9101]]", "must differ"),
        ("slots = [[8101, true]]", "expected pairs of ports"),
        ("start_seconds = '5'", "start_seconds is '5'; expected a number"),
        ("keep_releases = 1", "keep_releases is 1; expected a whole number of at least 2"),
        ("keep_releases = 2.5", "keep_releases is 2.5; expected a whole number"),
        ("keep_releases = inf", "keep_releases is inf; expected a number of at least 0"),
        ("start_seconds = inf", "start_seconds is inf; expected a number of at least 0"),
        ("finish_seconds = nan", "finish_seconds is nan; expected a number of at least 0"),
        ("metrics_offset = 60000", "the metrics port 68112 is above 65535"),
        ("root = '~/flow'", "root is '~/flow'; expected an absolute path"),
        ("artifacts = 'dist'", "artifacts is 'dist'; expected an absolute path"),
        ("[front]\nupstream_file = ''", "upstream_file is ''; expected an absolute path"),
        ("unit = 'flowbiz-platform.service'", "expected a text with {port}"),
        ("[front]\nkind = 'command'", "kind is 'command'; set command"),
        ("stop_seconds = -1", "stop_seconds is -1; expected a number of at least 0"),
        ("root = 5", "root is 5; expected a text"),
        ("front = 'nginx'", "front is 'nginx'; expected a table [front]"),
        ("[front]\nreload = 'nginx -s reload'", "reload is 'nginx -s reload'; expected a list of texts"),
        ("root = ", "is not valid TOML"),
    ],
)
def test_settings_name_the_wrong_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "lane.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        read_settings(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)


def test_settings_missing_file_names_the_example(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lane\.example\.toml"):
        read_settings(tmp_path / "none.toml")


def test_settings_example_is_valid() -> None:
    found = read_settings(ROOT / "deploy" / "lane.example.toml")
    assert found.slots == LaneSettings().slots
    assert found.front.kind == "nginx"


def test_environment_file_is_read_as_systemd_does(tmp_path: Path) -> None:
    file = tmp_path / "platform.env"
    file.write_text("# a comment\nA=1\n B = \"two words\" \nC='x=y'\n\n;D=4\nnonsense\nE=\n")
    assert read_environment(file) == {"A": "1", "B": "two words", "C": "x=y", "E": ""}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'A="a \"quoted\" \$word \n"', r'a "quoted" $word \n'),
        ("A=one \\\ntwo", "one two"),
        ('A="one\\\ntwo"', "onetwo"),
        ("A='one\ntwo'", "one\ntwo"),
        ('A="one"two', "onetwo"),
        ('A=one"two"', 'one"two"'),
        (r"A=C:\\x\y", r"C:\xy"),
        ("# a comment \\\nA=1", "1"),
        ("A=1\r\nB=2\r\n", "1"),
        ("A = x  ", "x"),
        ("A=x\\", "x"),
        ('A="never closed', "never closed"),
    ],
)
def test_environment_escapes_are_read_as_systemd_does(text: str, value: str) -> None:
    assert parse_environment(text)["A"] == value


def test_environment_skips_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "platform.env"
    file.write_bytes(b"\xef\xbb\xbfA=1\nexport B=2\n")
    assert read_environment(file) == {"A": "1"}


def test_environment_names_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "platform.env"
    file.write_bytes(b"A=\xff\n")
    with pytest.raises(UsageError, match=f"{file} is not UTF-8"):
        read_environment(file)


@pytest.mark.parametrize(
    ("lines", "public", "metrics"),
    [
        ("", "127.0.0.1:8101", "127.0.0.1:9101"),
        ("PLATFORM_HOST=0.0.0.0", "127.0.0.1:8101", "127.0.0.1:9101"),
        ("PLATFORM_HOST=10.1.2.3", "10.1.2.3:8101", "10.1.2.3:9101"),
        ("PLATFORM_HOST=::\nPLATFORM_METRICS_HOST=", "[::1]:8101", "[::1]:9101"),
        ("PLATFORM_HOST=0.0.0.0\nPLATFORM_METRICS_HOST=10.1.2.3", "127.0.0.1:8101", "10.1.2.3:9101"),
    ],
)
def test_addresses_come_from_the_environment_file(lines: str, public: str, metrics: str, tmp_path: Path) -> None:
    file = tmp_path / "platform.env"
    file.write_text(lines)
    found = Addresses(settings(tmp_path, environment_file=file))
    assert (found.public(8101), found.metrics(9101)) == (public, metrics)


def settings(directory: Path, **fields: object) -> LaneSettings:
    return LaneSettings(root=directory / "srv", **fields)  # type: ignore[arg-type]


def test_build_installs_locked_hashes_and_the_wheel(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    (artifacts / FIRST).mkdir(parents=True)
    (artifacts / FIRST / "flowbiz_ai_platform-0.1.0-py3-none-any.whl").touch()
    commands = StandInCommands(tmp_path / "srv")
    builder = Builder(settings(tmp_path, artifacts=artifacts), commands)
    builder.build(FIRST)
    assert builder.is_built(FIRST)
    venv, lock, wheel, tried = commands.calls
    assert venv == f"python3 -m venv ROOT/releases/{FIRST}"
    assert f"--require-hashes -r {artifacts}/{FIRST}/requirements.lock" in lock
    assert wheel.endswith(f"--no-deps {artifacts}/{FIRST}/flowbiz_ai_platform-0.1.0-py3-none-any.whl")
    assert tried.endswith("bin/flowbiz-platform --help")
    commands.calls.clear()
    assert "already built" in builder.build(FIRST)
    assert commands.calls == []


def test_interrupted_build_starts_again(tmp_path: Path) -> None:
    artifacts = tmp_path / "artifacts"
    (artifacts / FIRST).mkdir(parents=True)
    (artifacts / FIRST / "flowbiz_ai_platform-0.1.0-py3-none-any.whl").touch()
    commands = StandInCommands(tmp_path / "srv")
    commands.fail = lambda call: Finished(1, "", "hash mismatch") if "--require-hashes" in call else None
    builder = Builder(settings(tmp_path, artifacts=artifacts), commands)
    with pytest.raises(LaneError, match="hash mismatch"):
        builder.build(FIRST)
    (builder.directory(FIRST) / "half").touch()
    commands.fail = lambda _: None
    builder.build(FIRST)
    assert not (builder.directory(FIRST) / "half").exists()


def test_build_without_source_says_what_to_do(tmp_path: Path) -> None:
    builder = Builder(settings(tmp_path), StandInCommands(tmp_path))
    with pytest.raises(LaneError) as error:
        builder.build(FIRST)
    assert "artifacts/SHA" in error.value.remedy
    with pytest.raises(UsageError, match="not a full commit SHA"):
        builder.resolve("main")
    with pytest.raises(UsageError, match="names no commit"):
        Builder(settings(tmp_path, source=ROOT), SystemCommands()).resolve("--upload-pack=x")
    with pytest.raises(UsageError, match="git: fatal: cannot change to"):
        Builder(settings(tmp_path, source=tmp_path / "none"), SystemCommands()).resolve("HEAD")
    assert len(Builder(settings(tmp_path, source=ROOT), SystemCommands()).resolve("HEAD")) == 40


def test_process_runner_starts_and_stops(tmp_path: Path) -> None:
    program = tmp_path / "srv" / "releases" / FIRST / "bin" / "flowbiz-platform"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "import time; time.sleep(600)" "$@"\n')
    program.chmod(0o755)
    slots, port = Slots(settings(tmp_path)), free_port()
    runner = ProcessRunner(slots, dict)
    assert not runner.running(port)
    slots.prepare(port, FIRST)
    runner.start(port)
    assert runner.running(port)
    pid = (slots.directory(port) / "pid").read_text()
    runner.start(port)
    assert (slots.directory(port) / "pid").read_text() == pid
    runner.stop(port, 300)
    assert not runner.running(port)
    runner.stop(port, 300)


def test_process_runner_ignores_the_id_of_another_program(tmp_path: Path) -> None:
    slots, port = Slots(settings(tmp_path)), free_port()
    slots.directory(port).mkdir(parents=True)
    (slots.directory(port) / "pid").write_text("1")
    runner = ProcessRunner(slots, dict)
    assert not runner.running(port)
    runner.stop(port, 0)


def test_lane_imports_only_the_standard_library() -> None:
    """It runs before anything is installed."""
    for file in (ROOT / "apps" / "release_lane").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.partition(".")[0]
                assert top in sys.stdlib_module_names or name.startswith("apps.release_lane"), f"{file}: {name}"
