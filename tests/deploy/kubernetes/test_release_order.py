"""The release by hand, as docs/deploy.md has it: run with a kubectl that records what it gets."""

import json
import os
import re
import subprocess
from collections.abc import Mapping

import pytest

from apps.release_lane.kubernetes.manifests import canary_of
from tests.support.deploy.manifests import Manifest, find, gateway, overlay, policy_selects, selects, workloads
from tests.support.paths import ROOT

COMPONENT = "app.kubernetes.io/component"
RECORDER = """#!/usr/bin/env python3
import json, os, sys
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps(sys.argv[1:]) + "\\n")
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """The arguments of each kubectl command of the documented release, in order."""
    (script,) = re.findall(r"^```sh\n(overlay=.*?)^```", (ROOT / "docs/deploy.md").read_text(), re.M | re.S)
    folder = tmp_path_factory.mktemp("release")
    (folder / "kubectl").write_text(RECORDER)
    (folder / "kubectl").chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(folder / "record")}
    subprocess.run(["bash", "-eu", "-c", script], cwd=ROOT, env=environment, check=True, timeout=60)
    return [json.loads(line) for line in (folder / "record").read_text().splitlines()]


def applied(command: list[str], manifests: list[Manifest]) -> list[str]:
    """Return kind and name of what one `kubectl apply -k DIRECTORY -l SELECTOR` applies."""
    if command[0] != "apply":
        return []
    assert command[1:3] == ["-k", "deploy/kubernetes/overlays/production"]
    wanted = re.fullmatch(rf"{COMPONENT}(?:=(\w+)| in \(([\w, ]+)\))", command[command.index("-l") + 1])
    assert wanted is not None
    values = (wanted[1] or wanted[2]).split(", ")
    return [_name(each) for each in manifests if each["metadata"]["labels"][COMPONENT] in values]


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind'].lower()}/{manifest['metadata']['name']}"


def test_release_applies_every_manifest_once(commands: list[list[str]]) -> None:
    manifests = overlay("production")
    found = [name for command in commands for name in applied(command, manifests)]
    assert sorted(found) == sorted(_name(each) for each in manifests)


def test_release_migrates_before_it_rolls_out(commands: list[list[str]]) -> None:
    manifests = overlay("production")
    order = [name for command in commands for name in (applied(command, manifests) or [" ".join(command)])]
    steps = [
        "namespace/flowbiz-production",
        "-n flowbiz-production delete job flowbiz-platform-migrate --ignore-not-found",
        "job/flowbiz-platform-migrate",
        "-n flowbiz-production wait --for=condition=complete --timeout=15m job/flowbiz-platform-migrate",
        "deployment/flowbiz-platform",
        "-n flowbiz-production rollout status --timeout=30m deployment/flowbiz-platform",
        "-n flowbiz-production delete job flowbiz-platform-smoke --ignore-not-found",
        "job/flowbiz-platform-smoke",
        "-n flowbiz-production wait --for=condition=complete --timeout=5m job/flowbiz-platform-smoke",
    ]
    assert [step for step in order if step in steps] == steps


def test_waits_are_longer_than_the_jobs(commands: list[list[str]]) -> None:
    manifests = overlay("production")
    for command in commands:
        if "wait" in command:
            minutes = next(int(each[10:-1]) for each in command if each.startswith("--timeout="))
            job = find(manifests, "Job", command[-1].removeprefix("job/"))
            assert minutes * 60 >= job["spec"]["activeDeadlineSeconds"]


def test_canary_gets_no_traffic_and_reaches_the_stores() -> None:
    """The lane's canary is a pod of the gateway that no Service selects, with the gateway's network policy."""
    manifests = overlay("production")
    canary = canary_of(gateway(manifests), "gateway", "registry.example/flowbiz/flowbiz-platform:1")
    labels: Mapping[str, str] = canary["spec"]["template"]["metadata"]["labels"]
    services = [each for each in manifests if each["kind"] == "Service"]
    assert services
    assert not [each for each in services if selects(each["spec"]["selector"], labels)]
    assert policy_selects(find(manifests, "NetworkPolicy", "gateway")["spec"], labels)
    assert policy_selects(find(manifests, "NetworkPolicy", "dns")["spec"], labels)


def test_lane_example_names_what_the_overlay_has() -> None:
    text = (ROOT / "deploy/lane.example.toml").read_text()
    values = dict(re.findall(r'^(\w+) = "([^"]*)"', text.partition("[kubernetes]")[2], re.M))
    manifests = overlay("production")
    container = gateway(manifests)["spec"]["template"]["spec"]["containers"][0]
    assert values["namespace"] == find(manifests, "Namespace")["metadata"]["name"]
    assert values["deployment"] == gateway(manifests)["metadata"]["name"]
    assert values["container"] == container["name"]
    assert values["image"] == container["image"].rpartition(":")[0]
    assert (ROOT / values["overlay"] / "kustomization.yaml").is_file()
    assert find(manifests, "Job", values["migration_job"])


def test_log_command_of_runbooks_selects_the_gateway() -> None:
    manifests = overlay("production")
    (found,) = re.findall(r"kubectl -n (\S+) logs -l (\S+)=(\S+) ", (ROOT / "runbooks/README.md").read_text())
    namespace, label, value = found
    assert namespace == find(manifests, "Namespace")["metadata"]["name"]
    assert [name for name, labels, _ in workloads(manifests) if labels[label] == value] == [
        "Deployment flowbiz-platform"
    ]
