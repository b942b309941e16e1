"""Operations of the lane on a host: order, repetition, failures, and the log."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.platform_cli.database.migrate import contract
from apps.release_lane.commands import Finished
from apps.release_lane.journal import Journal, write_whole
from tests.support.deploy.stand_in_commands import FIRST, SECOND, THIRD, StandInCommands, StandInHost

Lane = Callable[..., int]


def failing(pattern: str, code: int = 1) -> Callable[[str], Finished | None]:
    return lambda call: Finished(code, "", "it is broken") if re.search(pattern, call) else None


def test_release_smokes_one_instance_before_the_rest(stand_in: StandInHost, lane: Lane) -> None:
    assert lane("release", FIRST) == 0
    assert stand_in.serving == [FIRST, FIRST]
    lane("release", SECOND)
    steps = ["check", "migrate up", "start --no-block flowbiz-platform@8111", " smoke ", "reload nginx"]
    steps += ["start --no-block flowbiz-platform@8112", " smoke ", "reload nginx", "stop --no-block"]
    found = iter(stand_in.commands.calls)
    for step in steps:
        assert any(step in call for call in found), f"{step} is not in its place: {stand_in.commands.calls}"
    assert stand_in.serving == [SECOND, SECOND]
    assert sorted(stand_in.commands.units) == [8111, 8112]
    assert os.readlink(stand_in.root / "current") == f"releases/{SECOND}"
    assert os.readlink(stand_in.root / "previous") == f"releases/{FIRST}"


def test_release_writes_instance_variables(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    text = (stand_in.root / "instances" / "8102" / "instance.env").read_text()
    assert text == f"PLATFORM_BUILD_SHA={FIRST}\nPLATFORM_METRICS_PORT=9102\n"


def test_repeated_release_changes_nothing(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    lane("release", SECOND)
    units = dict(stand_in.commands.units)
    assert lane("release", SECOND) == 0
    assert stand_in.commands.units == units
    assert stand_in.commands.of("systemctl start") == stand_in.commands.of("systemctl stop") == []
    assert os.readlink(stand_in.root / "previous") == f"releases/{FIRST}"


def test_dry_run_changes_nothing(stand_in: StandInHost, lane: Lane) -> None:
    assert lane("release", FIRST, "--dry-run") == 0
    assert stand_in.commands.calls == []
    assert sorted(path.name for path in stand_in.root.iterdir()) == ["releases"]
    text = "\n".join(stand_in.output)
    for step in ("build", "preflight", "expand migration", "smoke, slot 8101/8111", "switch", "retire", "If it fails"):
        assert step in text


def test_second_operation_is_refused_while_locked(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    with Journal(stand_in.root / "lane").lock():
        assert lane("release", FIRST) == 3
    assert f"process {os.getpid()}" in capsys.readouterr().err
    assert stand_in.commands.calls == []
    assert lane("release", FIRST) == 0


@pytest.mark.parametrize(
    ("broken", "step"),
    [
        (" check ", "preflight"),
        (" migrate up", "expand migration"),
    ],
)
def test_failure_before_start_changes_no_traffic(broken: str, step: str, stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    stand_in.commands.fail = failing(broken)
    assert lane("release", SECOND) == 1
    assert stand_in.serving == [FIRST, FIRST]
    assert stand_in.commands.of("systemctl start") == []
    assert stand_in.log()[-1]["result"].startswith(f"failed at step '{step}'")
    assert any("it is broken" in line for line in stand_in.output)
    assert any(line.strip().startswith("To do:") for line in stand_in.output)


@pytest.mark.parametrize("broken", [r"smoke .*:8111 ", r"smoke .*:8112 ", r"start .*@8111", r"start .*@8112"])
def test_failed_instance_returns_traffic(broken: str, stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    stand_in.commands.fail = failing(broken)
    assert lane("release", SECOND) == 1
    assert stand_in.serving == [FIRST, FIRST]
    assert set(stand_in.commands.units.values()) == {FIRST}
    assert stand_in.log()[-1]["result"].endswith("; taken back")
    stand_in.commands.fail = failing("nothing")
    assert lane("release", SECOND) == 0
    assert stand_in.serving == [SECOND, SECOND]


def test_failed_smoke_names_the_check(stand_in: StandInHost, lane: Lane) -> None:
    check = '{"name": "chat", "status": "failed", "detail": "502", "expected": "200", "remedy": "Run check."}'
    stand_in.commands.fail = lambda call: Finished(1, f'{{"checks": [{check}]}}', "") if " smoke " in call else None
    assert lane("release", FIRST) == 1
    assert "chat: received 502; expected 200. Run check." in "\n".join(stand_in.output)


def test_nginx_refusal_keeps_its_list(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    before = stand_in.upstreams.read_text()
    stand_in.commands.fail = failing("nginx -t")
    assert lane("release", SECOND) == 1
    assert stand_in.upstreams.read_text() == before
    assert stand_in.serving == [FIRST, FIRST]


def test_rollback_returns_all_slots_at_once(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    lane("release", SECOND)
    assert lane("rollback") == 0
    assert stand_in.serving == [FIRST, FIRST]
    assert len(stand_in.commands.of("reload nginx")) == 1
    assert stand_in.commands.of(" migrate ") == stand_in.commands.of(" check ") == []
    assert lane("rollback") == 0, "a repeated rollback stays"
    assert stand_in.serving == [FIRST, FIRST]
    assert lane("release", THIRD) == 0
    assert lane("rollback") == 0
    assert stand_in.serving == [FIRST, FIRST]


def test_rollback_to_named_release(stand_in: StandInHost, lane: Lane) -> None:
    for release in (FIRST, SECOND, THIRD):
        lane("release", release)
    assert lane("rollback", FIRST) == 0
    assert stand_in.serving == [FIRST, FIRST]


def test_rollback_of_first_release_is_refused(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    lane("release", FIRST)
    assert lane("rollback") == 2
    assert "No release to roll back to" in capsys.readouterr().err
    assert lane("rollback", "d" * 40) == 2
    assert "is not built" in capsys.readouterr().err


def test_retire_waits_for_the_last_request(stand_in: StandInHost, lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    lane("release", FIRST)
    left = [2, 2, 1, 0, 0]
    monkeypatch.setattr(StandInCommands, "in_flight", lambda self, _: left.pop(0) if left else 0)
    assert lane("release", SECOND) == 0
    assert left == []


def test_retire_waits_while_metrics_are_unreadable(
    stand_in: StandInHost, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane("release", FIRST)
    left = [None, None, 1, None, 0, 0]
    monkeypatch.setattr(StandInCommands, "in_flight", lambda self, _: left.pop(0) if left else 0)
    assert lane("release", SECOND) == 0
    assert left == []


def test_prometheus_targets_are_the_running_instances(
    stand_in: StandInHost, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, written = stand_in.directory / "targets.json", []

    def write(path: Path, text: str) -> None:
        written.append(json.loads(text)[0]["targets"])
        write_whole(path, text)

    monkeypatch.setattr("apps.release_lane.host.operations.write_whole", write)
    options = f'scrape_targets_file = "{file}"\nscrape_host = "gateway.example"\n'
    stand_in.config.write_text(options + stand_in.config.read_text())
    lane("release", FIRST)
    assert written.pop() == ["gateway.example:9101", "gateway.example:9102"]
    lane("release", SECOND)
    assert len(written.pop(0)) == 4, "the old instances still finish their requests"
    assert written.pop() == ["gateway.example:9111", "gateway.example:9112"]
    lane("rollback")
    assert json.loads(file.read_text()) == [{"targets": ["gateway.example:9101", "gateway.example:9102"]}]


def test_migration_shows_problems_with_grants(stand_in: StandInHost, lane: Lane) -> None:
    stand_in.commands.fail = lambda call: (
        Finished(0, "The schema is at head.", "The runtime role was not granted its rights.")
        if "migrate up" in call
        else None
    )
    assert lane("release", FIRST) == 0
    assert "The runtime role was not granted its rights." in "\n".join(stand_in.output)


def test_lane_reaches_instances_at_their_address(stand_in: StandInHost, lane: Lane) -> None:
    (stand_in.directory / "platform.env").write_text("PLATFORM_HOST=10.1.2.3\nPLATFORM_METRICS_HOST=10.9.2.3\n")
    assert lane("release", FIRST) == 0
    assert stand_in.commands.of(" smoke ", "--base-url http://10.1.2.3:8101 ", "http://10.9.2.3:9101/metrics")
    assert "server 10.1.2.3:8102 max_fails=0;" in stand_in.upstreams.read_text()


def test_contract_forgets_the_previous_release(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lane("contract") == 2
    lane("release", FIRST)
    lane("release", SECOND)
    assert lane("contract") == 0
    assert stand_in.commands.of(f"{SECOND}/bin/flowbiz-platform migrate contract")
    assert lane("rollback") == 2
    assert not (stand_in.root / "previous").exists()


def test_contract_without_a_migration_keeps_the_previous_release(
    stand_in: StandInHost, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    contract()
    printed = capsys.readouterr().out
    stand_in.commands.fail = lambda call: Finished(0, printed, "") if "migrate contract" in call else None
    lane("release", FIRST)
    lane("release", SECOND)
    assert lane("contract") == 0
    assert any("nothing was removed" in line for line in stand_in.output)
    assert lane("rollback") == 0
    assert set(stand_in.serving) == {FIRST}


def test_contract_waits_for_old_instances(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    lane("release", SECOND)
    stand_in.commands.units[8101] = FIRST
    assert lane("contract") == 1
    assert stand_in.commands.of("migrate") == []
    assert any(f"instances of {FIRST[:12]} still run" in line for line in stand_in.output)


def test_log_prints_each_operation(stand_in: StandInHost, lane: Lane) -> None:
    lane("release", FIRST)
    lane("release", SECOND)
    lane("rollback")
    assert [(line["action"], line["from"], line["to"], line["result"]) for line in stand_in.log()] == [
        ("release", None, FIRST, "done"),
        ("release", FIRST, SECOND, "done"),
        ("rollback", SECOND, FIRST, "done"),
    ]
    assert all(line["who"] and line["at"] for line in stand_in.log())
    assert lane("log") == 0
    assert len("\n".join(stand_in.output).splitlines()) == 6


def test_release_removes_old_releases_but_none_in_use(stand_in: StandInHost, lane: Lane) -> None:
    """The release before is the oldest one here, and stays, because a rollback needs it."""
    stand_in.config.write_text("keep_releases = 2\n" + stand_in.config.read_text())
    releases = stand_in.root / "releases"
    for age, name in enumerate((FIRST, "d" * 40, THIRD, "e" * 40)):
        (releases / name).mkdir(exist_ok=True)
        (releases / name / "complete").touch()
        os.utime(releases / name / "complete", (age, age))
    (releases / ("f" * 40)).mkdir()  # a build that did not end
    lane("release", FIRST)
    assert sorted(each.name for each in releases.iterdir()) == [FIRST, SECOND]
    assert any("removed " in line and THIRD in line and "2 releases are kept" in line for line in stand_in.output)
    (releases / THIRD).mkdir()
    (releases / THIRD / "complete").touch()
    lane("release", SECOND)
    assert sorted(each.name for each in releases.iterdir()) == [FIRST, SECOND]
    assert lane("rollback") == 0
    assert stand_in.serving == [FIRST, FIRST]


def test_release_that_cannot_be_removed_keeps_traffic(
    stand_in: StandInHost, lane: Lane, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    lane("release", FIRST)
    stand_in.config.write_text("keep_releases = 2\n" + stand_in.config.read_text())
    monkeypatch.setattr(shutil, "rmtree", refuse)
    assert lane("release", SECOND) == 1
    assert stand_in.serving == [SECOND, SECOND]
    assert stand_in.log()[-1]["result"].startswith("failed at step 'prune'")
    assert stand_in.log()[-1]["result"].endswith("traffic is on the new release")
    monkeypatch.undo()
    assert lane("release", SECOND) == 0
