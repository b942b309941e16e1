"""Core's top-level package `apps` beside ours: both must be found, in throw-away environments.

No registry is asked: the wheels are built here, and the dependencies are those of the environment that runs the test.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.stand_in_core.build import build_wheel
from tests.support.paths import ROOT

CHECKOUT = ROOT
BOTH = "import apps.platform_api, apps.api, packages.core.contracts.health"

# What pip calls for `pip install .` and `pip install -e .`; once here, instead of once for each environment.
BUILD = """
import json, sys
from hatchling.build import build_editable, build_wheel
normal, editable = sys.argv[1:]
print(json.dumps([build_wheel(normal), build_editable(editable)]))
"""


@dataclass(frozen=True, slots=True)
class Wheels:
    """What is installed, and the copy of the checkout to which the editable wheel points."""

    checkout: Path
    core: Path
    normal: Path
    editable: Path


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment of this test."""

    python: Path

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.python.parents[1])}))

    def run(self, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return _run(self.python, "-c", code, cwd=cwd)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    """Built from a copy, so that the test leaves nothing in the checkout."""
    checkout, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheels")
    for name in ("apps", "platform_app", "migrations"):
        shutil.copytree(CHECKOUT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "editable_path_hook.py"):
        shutil.copy(CHECKOUT / name, checkout)
    normal, editable = built / "normal", built / "editable"
    normal.mkdir()
    editable.mkdir()
    result = _run(Path(sys.executable), "-c", BUILD, str(normal), str(editable), cwd=checkout)
    assert result.returncode == 0, result.stderr
    normal_name, editable_name = json.loads(result.stdout.splitlines()[-1])
    return Wheels(checkout, core=build_wheel(built), normal=normal / normal_name, editable=editable / editable_name)


def make_environment(directory: Path, *wheels: Path) -> Environment:
    """The wheels installed by pip, one after the other."""
    venv.create(directory, symlinks=os.name != "nt", with_pip=False)
    environment = Environment(Path(sysconfig.get_path("scripts", "venv", {"base": str(directory)})) / "python")
    for wheel in wheels:
        pip = ("-m", "pip", "--python", str(environment.python), "install", "--no-deps", "--no-index", "--no-compile")
        result = _run(Path(sys.executable), *pip, str(wheel), cwd=directory)
        assert result.returncode == 0, result.stderr
    # Written last, so that pip does not see what is installed there. Python reads no .pth files in a folder that
    # was itself named by one: the dependencies become visible, and this checkout's editable install does not.
    dependencies = sysconfig.get_path("purelib")
    (environment.site_packages / "dependencies.pth").write_text(f"{dependencies}\n", encoding="utf-8")
    return environment


def _run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(
        [str(python), *arguments], cwd=cwd, env=inherited | settings, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("core_first", [True, False], ids=["core first", "core last"])
@pytest.mark.parametrize("kind", ["normal", "editable"])
def test_both_are_found_from_any_working_directory(wheels: Wheels, tmp_path: Path, kind: str, core_first: bool) -> None:
    ours = wheels.normal if kind == "normal" else wheels.editable
    order = (wheels.core, ours) if core_first else (ours, wheels.core)
    environment = make_environment(tmp_path / "venv", *order)
    home = environment.site_packages if kind == "normal" else wheels.checkout
    for cwd in (tmp_path, Path(tmp_path.anchor), wheels.checkout):
        result = environment.run(f"{BOTH}; print(apps.platform_api.__file__, apps.api.__file__, sep='\\n')", cwd)
        assert result.returncode == 0, f"from {cwd}: {result.stderr}"
        expected_home = wheels.checkout if cwd == wheels.checkout else home
        assert result.stdout.splitlines() == [
            str(expected_home / "apps" / "platform_api" / "__init__.py"),
            str(environment.site_packages / "apps" / "api" / "__init__.py"),
        ]


def test_without_the_path_line_core_hides_the_editable_install(wheels: Wheels, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", wheels.core, wheels.editable)
    (environment.site_packages / "zz_flowbiz_ai_platform_first.pth").unlink()
    result = environment.run(BOTH, tmp_path)
    assert result.returncode == 1
    assert "No module named 'apps.platform_api'" in result.stderr


def test_editable_install_without_extended_path_hides_core(wheels: Wheels, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", wheels.core, wheels.editable)
    result = environment.run(f"import apps; apps.__path__[1:] = []; {BOTH}", tmp_path)
    assert result.returncode == 1
    assert "No module named 'apps.api'" in result.stderr


def test_installed_core_is_recognised(wheels: Wheels, tmp_path: Path) -> None:
    environment = make_environment(tmp_path / "venv", wheels.core, wheels.editable)
    code = "from platform_app.core_contracts import *; print(core_status(), contract_differences())"
    result = environment.run(code, tmp_path)
    assert result.stdout == "CoreStatus(pinned='0.2.0', installed='0.2.0', compatible=True) []\n", result.stderr


def test_changed_core_is_reported_with_the_difference(wheels: Wheels, tmp_path: Path) -> None:
    edits = {"packages/core/contracts/health.py": ("version: str", "version: int")}
    environment = make_environment(tmp_path / "venv", build_wheel(tmp_path, edits=edits), wheels.normal)
    code = "from platform_app.core_contracts import *; print(core_status().compatible, *contract_differences())"
    result = environment.run(code, tmp_path)
    difference = "packages.core.contracts.health.HealthResponse.version: expected str, core has int"
    assert result.stdout == f"False {difference}\n", result.stderr
