"""The lane in a cluster, with a stand-in for kubectl that records its calls."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from apps.release_lane.command import main
from apps.release_lane.commands import Finished
from apps.release_lane.kubernetes.manifests import VERSION
from tests.support.deploy.stand_in_commands import FIRST, SECOND, THIRD, Killed
from tests.support.deploy.stand_in_kubectl import IMAGE, StandInKubectl

Lane = Callable[..., int]
ORDER = [
    "auth can-i", "kustomize overlay", "delete job/", "apply",
    "wait --for=condition=complete job/flowbiz-platform-migrate", "apply",
    "rollout status deployment/flowbiz-platform-canary", "exec -i deployment/flowbiz-platform-canary",
    "patch deployment/flowbiz-platform --type=strategic", "rollout status deployment/flowbiz-platform ", "annotate",
    "delete deployment/flowbiz-platform-canary",
]  # fmt: skip


@pytest.fixture
def kubectl() -> StandInKubectl:
    return StandInKubectl()


@pytest.fixture
def lane(tmp_path: Path, kubectl: StandInKubectl) -> Lane:
    (tmp_path / "smoke.key").write_text("fbp_test_key\n")
    config = tmp_path / "lane.toml"
    config.write_text(
        f'kind = "kubernetes"\nroot = "{tmp_path}/srv"\nsmoke_key_file = "{tmp_path}/smoke.key"\n'
        f'[kubernetes]\nimage = "{IMAGE}"\noverlay = "overlay"\n'
    )
    return lambda *arguments: main([*arguments, "--config", str(config)], lambda _: None, kubectl)


def failing(pattern: str) -> Callable[[str], Finished | None]:
    return lambda call: Finished(1, "", "it is broken") if re.search(pattern, call) else None


def test_cluster_release_smokes_a_canary_before_the_rest(kubectl: StandInKubectl, lane: Lane) -> None:
    assert lane("release", SECOND) == 0
    found = iter(kubectl.calls)
    for step in ORDER:
        assert any(step in call + " " for call in found), f"{step} is not in its place: {kubectl.calls}"
    assert kubectl.image == f"{IMAGE}:{SECOND}"
    job, canary = kubectl.applied
    assert job["metadata"]["name"] == f"flowbiz-platform-migrate-{SECOND[:12]}"
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == f"{IMAGE}:{SECOND}"
    pod = canary["spec"]["template"]
    assert canary["spec"]["replicas"] == 1
    assert pod["spec"]["containers"][0]["image"] == f"{IMAGE}:{SECOND}"
    component = {"app.kubernetes.io/component": "gateway-canary"}
    assert pod["metadata"]["labels"] == {**component, VERSION: SECOND}
    assert canary["spec"]["selector"]["matchLabels"] == component
    assert job["metadata"]["labels"][VERSION] == job["spec"]["template"]["metadata"]["labels"][VERSION] == SECOND


def test_cluster_operations_label_the_version(kubectl: StandInKubectl, lane: Lane) -> None:
    lane("release", SECOND)
    assert kubectl.versions == [SECOND, SECOND]
    lane("rollback")
    assert kubectl.versions == [FIRST, FIRST]
    lane("rollback", SECOND)
    assert kubectl.versions == [SECOND, SECOND]


def test_smoke_key_is_not_an_argument(kubectl: StandInKubectl, lane: Lane) -> None:
    lane("release", SECOND)
    assert "fbp_test_key" not in " ".join(kubectl.calls)
    assert "fbp_test_key\n" in kubectl.stdin


@pytest.mark.parametrize("broken", ["auth", "wait --for", "rollout status .*canary", " exec "])
def test_cluster_failure_before_rollout_changes_no_image(broken: str, kubectl: StandInKubectl, lane: Lane) -> None:
    kubectl.fail = failing(broken)
    assert lane("release", SECOND) == 1
    assert kubectl.image == f"{IMAGE}:{FIRST}"
    assert kubectl.of(" patch deployment/") == []


def test_failed_rollout_is_undone(kubectl: StandInKubectl, lane: Lane) -> None:
    calls: list[str] = []

    def fail_once(call: str) -> Finished | None:
        if "rollout status deployment/flowbiz-platform " in call and not calls:
            calls.append(call)
            return Finished(1, "", "timed out")
        return None

    kubectl.fail = fail_once
    assert lane("release", SECOND) == 1
    assert kubectl.of("rollout undo") == ["kubectl rollout undo deployment/flowbiz-platform"]
    assert kubectl.image == f"{IMAGE}:{FIRST}"
    assert kubectl.versions == [FIRST, FIRST]


def test_cluster_rollback_is_repeatable(kubectl: StandInKubectl, lane: Lane) -> None:
    lane("release", SECOND)
    assert lane("rollback") == 0
    assert kubectl.image == f"{IMAGE}:{FIRST}"
    assert lane("rollback") == 0
    assert kubectl.image == f"{IMAGE}:{FIRST}", "a repeated `rollout undo` would return to the broken release"
    assert len(kubectl.of("rollout undo")) == 1


def test_failed_release_keeps_the_noted_release(kubectl: StandInKubectl, lane: Lane) -> None:
    lane("release", SECOND)
    rollouts: list[str] = []

    def fail_once(call: str) -> Finished | None:
        if "rollout status deployment/flowbiz-platform " not in call or rollouts:
            return None
        rollouts.append(call)
        return Finished(1, "", "timed out")

    kubectl.fail = fail_once
    assert lane("release", THIRD) == 1
    assert kubectl.image == f"{IMAGE}:{SECOND}"
    assert lane("rollback") == 0
    assert kubectl.image == f"{IMAGE}:{FIRST}"


@pytest.mark.parametrize(
    "at",
    [" apply ", "-canary", " exec ", "patch deployment/", "rollout status deployment/flowbiz-platform ", "annotate"],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_killed_cluster_release_is_rolled_back(at: str, resumed: bool, kubectl: StandInKubectl, lane: Lane) -> None:
    lane("release", SECOND)

    def kill(call: str) -> Finished | None:
        if at in call + " ":
            raise Killed
        return None

    kubectl.fail = kill
    with pytest.raises(Killed):
        lane("release", THIRD)
    kubectl.fail = failing(" exec ") if resumed else lambda _: None
    if resumed:
        assert lane("release", THIRD) == 1
        assert kubectl.image == f"{IMAGE}:{SECOND}", "the failed release is taken back"
    kubectl.fail = lambda _: None
    assert lane("rollback") == 0
    assert kubectl.image == f"{IMAGE}:{FIRST if resumed else SECOND}"
    assert lane("rollback") == 0
    assert kubectl.image == f"{IMAGE}:{FIRST if resumed else SECOND}", "a repeated rollback changes nothing"


def test_rollback_without_history_sets_the_image(kubectl: StandInKubectl, lane: Lane) -> None:
    assert lane("rollback", SECOND) == 0
    assert kubectl.of("rollout undo")
    assert kubectl.image == f"{IMAGE}:{SECOND}"


def test_complete_migration_job_runs_again(kubectl: StandInKubectl, lane: Lane) -> None:
    """Also after a change of the settings, whose ConfigMap has another name then."""
    lane("release", SECOND)
    [job] = kubectl.jobs.values()
    job["spec"]["template"]["spec"]["volumes"] = [{"configMap": {"name": "settings-of-yesterday"}}]
    kubectl.calls.clear()
    assert lane("release", SECOND) == 0
    [deleted] = kubectl.of("delete job/")
    assert "--cascade=foreground" in deleted


def test_migration_job_shows_its_output(kubectl: StandInKubectl, tmp_path: Path, lane: Lane) -> None:
    kubectl.fail = lambda call: Finished(0, "The runtime role was not granted.\n", "") if " logs job/" in call else None
    output: list[str] = []
    arguments = ["release", SECOND, "--config", str(tmp_path / "lane.toml")]
    assert main(arguments, output.append, kubectl) == 0
    assert any("The runtime role was not granted." in line for line in output)


@pytest.mark.parametrize(
    "arguments", [("release", SECOND), ("release", SECOND, "--dry-run"), ("rollback",), ("contract",)]
)
def test_unreachable_cluster_is_one_message(
    arguments: tuple[str, ...], kubectl: StandInKubectl, lane: Lane, capsys: pytest.CaptureFixture[str]
) -> None:
    kubectl.fail = lambda _: Finished(1, "", "The connection to the server 10.0.0.1:6443 was refused")
    assert lane(*arguments) == 1
    assert "The connection to the server 10.0.0.1:6443 was refused" in capsys.readouterr().err


def test_failed_migration_job_is_deleted(kubectl: StandInKubectl, lane: Lane) -> None:
    kubectl.fail = failing("wait --for")
    lane("release", SECOND)
    assert kubectl.of("logs job/flowbiz-platform-migrate")
    assert kubectl.of("delete job/flowbiz-platform-migrate")


def test_cluster_dry_run_only_reads(kubectl: StandInKubectl, lane: Lane) -> None:
    assert lane("release", SECOND, "--dry-run") == 0
    assert all(call.startswith("kubectl get ") for call in kubectl.calls)


def test_cluster_without_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "lane.toml"
    config.write_text(f'kind = "kubernetes"\nroot = "{tmp_path}"\n')
    assert main(["release", FIRST, "--config", str(config)], lambda _: None, StandInKubectl()) == 2
    assert "[kubernetes] image is not set" in capsys.readouterr().err
