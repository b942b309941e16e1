"""`make sbom` lists every package of the production lock, and its output is valid CycloneDX."""

import json
import re
import subprocess
from typing import Any

import pytest

from tests.support.paths import ROOT

LOCKED = re.compile(r"^([\w.-]+)==([^ ;\\]+)", re.M)


@pytest.fixture(scope="module")
def bill(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Make it as the release does; `cyclonedx-py --validate` checks it against the schema."""
    file = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    done = subprocess.run(
        ["make", "--no-print-directory", "sbom", f"SBOM={file}"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "--validate" in done.stdout
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_bill_lists_every_locked_package(bill: dict[str, Any]) -> None:
    locked = set(LOCKED.findall((ROOT / "requirements.lock").read_text()))
    assert len(locked) > 50
    assert {(each["name"], each["version"]) for each in bill["components"]} == locked
    for each in bill["components"]:
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
        assert each["externalReferences"][0]["hashes"], f"{each['name']} has no hash"


def test_bill_names_the_product_and_its_version(bill: dict[str, Any]) -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert version is not None
    component = bill["metadata"]["component"]
    assert (component["type"], component["name"], component["version"]) == (
        "application", "flowbiz-ai-platform", version[1]
    )  # fmt: skip
    assert bill["bomFormat"] == "CycloneDX"
