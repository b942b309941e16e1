"""Failures around the steps of the lane: a message and a whole state, never a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.release_lane.command import main
from apps.release_lane.commands import Finished
from tests.support.deploy.stand_in_commands import FIRST, SECOND, StandInHost
from tests.support.paths import ROOT

Lane = Callable[..., int]


@pytest.mark.parametrize("action", [("release", FIRST, "--dry-run"), ("log",), ("rollback", FIRST)])
def test_config_is_read_before_and_after_the_action(
    action: tuple[str, ...], stand_in: StandInHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWBIZ_LANE_CONFIG", str(stand_in.directory / "production.toml"))
    for arguments in (["--config", str(stand_in.config), *action], [*action, "--config", str(stand_in.config)]):
        assert main(arguments, stand_in.output.append, stand_in.commands, stand_in.commands) == 0
    assert main(list(action), stand_in.output.append, stand_in.commands, stand_in.commands) == 2


def test_root_that_cannot_be_made_is_named(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    (stand_in.directory / "file").touch()
    stand_in.config.write_text(
        stand_in.config.read_text().replace(str(stand_in.root), f"{stand_in.directory}/file/srv")
    )
    assert lane("release", FIRST) == 2
    assert f"{stand_in.directory}/file/srv/lane: Not a directory" in capsys.readouterr().err


def test_step_without_space_left_is_taken_back(
    stand_in: StandInHost, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane("release", FIRST)
    full = [True]

    def write(path: Path, text: str) -> None:
        if full:
            full.clear()
            raise OSError(28, "No space left on device", str(path))
        path.write_text(text)

    monkeypatch.setattr("apps.release_lane.host.front.write_whole", write)
    assert lane("release", SECOND) == 1
    assert stand_in.serving == [FIRST, FIRST]
    assert stand_in.log()[-1]["result"] == (
        f"failed at step 'switch, slot 8101/8111': {stand_in.upstreams}: No space left on device; taken back"
    )


def test_smoke_key_that_is_not_utf8_fails_the_step(stand_in: StandInHost, lane: Lane) -> None:
    (stand_in.directory / "smoke.key").write_bytes(b"\xff")
    assert lane("release", FIRST) == 1
    assert any("FAILED: 'utf-8' codec" in line for line in stand_in.output)


def test_interrupted_lane_says_how_to_continue(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: str) -> Finished | None:
        raise KeyboardInterrupt

    stand_in.commands.fail = interrupt
    assert lane("release", FIRST) == 130
    assert "repeat the command" in capsys.readouterr().err
    stand_in.commands.fail = lambda _: None
    assert lane("release", FIRST) == 0
    assert [line["result"].partition(" ")[0] for line in stand_in.log()] == ["interrupted", "done"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_closed_output_stops_no_operation(encoding: str, stand_in: StandInHost) -> None:
    """The reader of the pipe has gone before the first line, or the terminal cannot show every character."""
    script = (
        "import sys; from pathlib import Path; from tests.support.deploy.stand_in_commands import StandInHost\n"
        "from apps.release_lane.command import main; from apps.release_lane.output import show\n"
        "host = StandInHost(Path(sys.argv[1])); show('\u2026')\n"
        "sys.exit(main(['release', sys.argv[2], '--config', str(host.config)], show, host.commands, host.commands))\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    directory = stand_in.directory / "other"
    directory.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory), FIRST],
        stdout=writer, stderr=subprocess.PIPE, cwd=ROOT, check=False, text=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    log = (directory / "srv" / "lane" / "releases.log").read_text()
    assert '"result": "done"' in log.splitlines()[-1]
