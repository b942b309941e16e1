"""The lane is killed before each of its programs in turn, and the next command brings the host to a whole state."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.release_lane.command import main
from tests.support.deploy.stand_in_commands import FIRST, SECOND, THIRD, Killed, StandInHost

Lane = Callable[..., int]


def interrupted_host(directory: Path, call: int, *, action: str = "release") -> StandInHost:
    """A host whose lane was killed before this call of its second operation."""
    directory.mkdir()
    host = StandInHost(directory)
    assert run(host, "release", FIRST) == 0
    if action == "rollback":
        assert run(host, "release", SECOND) == 0
    host.commands.calls.clear()
    host.commands.kill_at = call
    with pytest.raises(Killed):
        run(host, *(("release", SECOND) if action == "release" else ("rollback",)))
    host.commands.kill_at = None
    assert len(host.serving) == 2
    assert None not in host.serving, "no port without an instance gets traffic"
    return host


def run(host: StandInHost, *arguments: str) -> int:
    return main([*arguments, "--config", str(host.config)], host.output.append, host.commands, host.commands)


def calls_of(directory: Path, action: str) -> int:
    """The number of programs that the uninterrupted operation runs."""
    host = StandInHost(directory)
    run(host, "release", FIRST)
    if action == "rollback":
        run(host, "release", SECOND)
    host.commands.calls.clear()
    run(host, *(("release", SECOND) if action == "release" else ("rollback",)))
    return len(host.commands.calls)


def test_killed_release_is_resumed_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    calls = calls_of(tmp_path / "whole", "release")
    assert calls > 20
    for call in range(calls):
        host = interrupted_host(tmp_path / str(call), call)
        assert run(host, "release", SECOND) == 0, f"killed before call {call}"
        assert host.serving == [SECOND, SECOND]
        assert set(host.commands.units.values()) == {SECOND}, f"killed before call {call}"
        assert [line["result"].partition(" ")[0] for line in host.log()] == ["done", "interrupted", "done"]
        assert run(host, "rollback") == 0
        assert host.serving == [FIRST, FIRST]


def test_killed_release_is_rolled_back_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    for call in range(calls_of(tmp_path / "whole", "release")):
        host = interrupted_host(tmp_path / str(call), call)
        assert run(host, "rollback") == 0, f"killed before call {call}: {host.output}"
        assert host.serving == [FIRST, FIRST], f"killed before call {call}"
        assert set(host.commands.units.values()) == {FIRST}
        assert run(host, "release", THIRD) == 0


def test_killed_rollback_is_resumed_at_every_step(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    calls = calls_of(tmp_path / "whole", "rollback")
    assert calls > 8
    for call in range(calls):
        host = interrupted_host(tmp_path / str(call), call, action="rollback")
        assert run(host, "rollback") == 0, f"killed before call {call}"
        assert host.serving == [FIRST, FIRST], f"killed before call {call}"
        assert set(host.commands.units.values()) == {FIRST}


def test_other_release_is_refused_after_an_interruption(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    host = interrupted_host(tmp_path / "host", 8)
    assert run(host, "release", THIRD) == 2
    assert f"The release of {SECOND}" in capsys.readouterr().err
    assert run(host, "contract") == 2
