"""A host whose programs are stand-ins, and the lane on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from apps.release_lane.command import main
from tests.support.deploy.stand_in_commands import StandInHost

Lane = Callable[..., int]


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of small files: a busy disk would take minutes."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def stand_in(tmp_path: Path) -> StandInHost:
    return StandInHost(tmp_path)


@pytest.fixture
def lane(stand_in: StandInHost) -> Lane:
    """Run the lane in this process; return its exit code."""

    def run(*arguments: str) -> int:
        stand_in.output.clear()
        stand_in.commands.calls.clear()
        return main(
            [*arguments, "--config", str(stand_in.config)], stand_in.output.append, stand_in.commands, stand_in.commands
        )

    return run
