"""The hooks before a commit run what CI runs before the tests, and CI runs each test."""

import re

import yaml

from tests.conftest import LONGEST
from tests.support.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = "test", "proofs"


def prerequisites(target: str) -> list[str]:
    """Return the targets that a target of the Makefile needs first."""
    match = re.search(rf"^{target}: ([\w $()]+) ##", MAKEFILE, re.M)
    assert match is not None, target
    return match[1].split()


def test_hooks_run_every_part_of_make_check() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    commands = [hook["entry"] for hook in repo["hooks"]]
    assert commands == [f"make --no-print-directory {part}" for part in prerequisites("check")]


def test_ci_runs_make_check() -> None:
    assert re.search(r"^test: .*\n\t@\$\(MAKE\) --no-print-directory -j2 check ", MAKEFILE, re.M)
    assert re.search(r"^make test\b", (ROOT / ".ci/run").read_text(), re.M)


def test_ci_runs_each_test_once() -> None:
    """`make test` leaves out exactly what `make proofs` runs, and CI runs both without a skip."""
    expressions = {
        target: re.findall(rf"^{target}:(?:.*\n\t)+.*pytest -m (\"[^\"]+\"|\w+) ", MAKEFILE, re.M) for target in TARGETS
    }
    assert expressions == {"test": ['"not proof"'], "proofs": ["proof"]}
    runs = re.findall(r"^make (test|proofs) ARGS=\"(.*)\"$", (ROOT / ".ci/run").read_text(), re.M)
    assert runs == [(target, "-p no:cacheprovider --fail-on-skip") for target in TARGETS]


def test_make_help_shows_every_target_with_a_group() -> None:
    """A target without a description is missing from `make help`."""
    (phony,) = re.findall(r"^\.PHONY: (.*)", MAKEFILE, re.M)
    described = re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.M)
    assert sorted(described) == sorted(phony.split())
    groups = re.split(r"^##@ .*\n", MAKEFILE, flags=re.M)[1:]
    assert all(re.search(r"^[a-z]+:.*## ", group, re.M) for group in groups)


def test_longest_files_exist() -> None:
    """A file that was renamed would begin late, and one process would wait for it at the end."""
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
