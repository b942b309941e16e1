"""Each overlay renders to valid manifests that fit each other and the gateway's settings."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from apps.platform_cli.main import app
from platform_app.config import load_config
from tests.deploy.kubernetes.conftest import LoadsSettings
from tests.support.deploy.cluster_checks import cluster_problems, monitoring_problems, network_problems
from tests.support.deploy.gateway_checks import gateway_problems, selector_problems
from tests.support.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    WORKLOADS,
    Manifest,
    find,
    gateway,
    overlay,
    render,
    secret_keys,
    workloads,
)
from tests.support.deploy.pod_checks import pod_problems

WITH_MONITORING = ("staging", "production")
CUSTOM = {"ServiceMonitor", "PrometheusRule"}
"""Kinds of the Prometheus operator, which Kubernetes' schemas do not have."""
LATEST, OLDEST = "1.37", "1.30"
"""The oldest is the first version with a preStop of kind `sleep`."""


@pytest.fixture(scope="module")
def with_claims(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """Production with the component that keeps the spool on claims."""
    folder = tmp_path_factory.mktemp("claims")
    up = Path("..", *[".."] * (len(folder.resolve().parts) - 2))
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": [str(up / (KUBERNETES / "overlays/production").relative_to("/"))],
                "components": [str(up / (KUBERNETES / "components/spool-claims").relative_to("/"))],
            }
        )
    )
    return render(folder)


def invalid(manifests: Sequence[Manifest], folder: Path, version: str = LATEST) -> str:
    """Return what Kubernetes' own schemas have against the manifests, apart from custom kinds."""
    file = folder / "render.yaml"
    file.write_text(yaml.safe_dump_all([each for each in manifests if each["kind"] not in CUSTOM]))
    program = str(Path(sys.executable).parent / "kubernetes-validate")
    command = [program, "--strict", "--quiet", "-k", version, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_overlay_matches_schemas_of_kubernetes(tmp_path: Path) -> None:
    """The overlays have the same kinds; the validation of all of them takes seconds, so it is done for one."""
    assert invalid(overlay("production"), tmp_path) == ""
    assert {each["kind"] for each in overlay("dev")} <= {each["kind"] for each in overlay("production")}


def test_workloads_match_schemas_of_oldest_version(tmp_path: Path) -> None:
    assert invalid([each for each in overlay("production") if each["kind"] in WORKLOADS], tmp_path, OLDEST) == ""


def test_schema_check_finds_an_unknown_field(tmp_path: Path) -> None:
    service = find(overlay("dev"), "Service", "flowbiz-platform")
    service["spec"]["portz"] = []
    assert "portz" in invalid([service], tmp_path)


@pytest.mark.parametrize("name", OVERLAYS)
def test_overlay_has_no_problems(name: str, load_rendered: LoadsSettings) -> None:
    manifests = overlay(name)
    settings = load_rendered(manifests)
    problems = [
        *pod_problems(manifests), *gateway_problems(manifests, settings), *selector_problems(manifests),
        *cluster_problems(manifests, f"flowbiz-{name}"), *network_problems(manifests),
        *(monitoring_problems(manifests) if name in WITH_MONITORING else ()),
    ]  # fmt: skip
    assert problems == []
    assert settings.env == name


def test_claims_replace_the_deployment(
    with_claims: list[Manifest], load_rendered: LoadsSettings, tmp_path: Path
) -> None:
    settings = load_rendered(with_claims)
    assert not [each for each in with_claims if each["kind"] == "Deployment"]
    assert invalid([gateway(with_claims)], tmp_path) == ""
    problems = [
        *pod_problems(with_claims), *gateway_problems(with_claims, settings), *selector_problems(with_claims),
        *cluster_problems(with_claims, "flowbiz-production"), *network_problems(with_claims),
    ]  # fmt: skip
    assert problems == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_config_file_of_overlay_loads(name: str, load_rendered: LoadsSettings, tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    manifests = overlay(name)
    file.write_text(find(manifests, "ConfigMap", "flowbiz-platform-config")["data"]["platform.yaml"])
    settings = load_rendered(manifests).model_copy(update={"config_file": file})
    providers = load_config(settings).providers.values()
    assert {provider.api_key_secret for provider in providers} <= secret_keys()["flowbiz-platform"]


def test_containers_run_existing_commands() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    used = [pod["containers"][0] for _, _, pod in workloads(overlay("production"))]
    names = [each["args"] for each in used if "args" in each]
    assert sorted(names) == [["migrate", "up"], ["serve"]]
    assert {name[0] for name in names} <= commands.keys()
    assert "up" in commands["migrate"].commands
