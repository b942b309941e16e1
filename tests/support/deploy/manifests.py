"""The Kubernetes manifests as `kubectl kustomize` renders them."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("dev", "staging", "production")
CLUSTER_SCOPED = {"Namespace"}
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


def render(folder: Path) -> list[Manifest]:
    """Render a kustomization."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def overlay(name: str) -> list[Manifest]:
    """Return the manifests of an environment; the caller may change them."""
    return deepcopy(_overlay(name))


@cache
def _overlay(name: str) -> list[Manifest]:
    return render(KUBERNETES / "overlays" / name)


@cache
def secret_keys() -> Mapping[str, frozenset[str]]:
    """Return the keys of each Secret that `deploy/kubernetes/secrets` makes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "secrets"
        copy.mkdir()
        shutil.copy(KUBERNETES / "secrets/kustomization.yaml", copy)
        generators = yaml.safe_load((copy / "kustomization.yaml").read_text())["secretGenerator"]
        for line in {line for generator in generators for line in generator["files"]}:
            (copy / line.partition("=")[2]).write_text("a value of this test")
        return {secret["metadata"]["name"]: frozenset(secret["data"]) for secret in render(copy)}


def find(manifests: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """Return the one manifest of this kind (and name)."""
    (found,) = [each for each in manifests if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def workloads(manifests: Sequence[Manifest]) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Yield name, pod labels and pod spec of each workload."""
    for each in manifests:
        if each["kind"] in WORKLOADS:
            template = each["spec"]["template"]
            yield f"{each['kind']} {each['metadata']['name']}", template["metadata"]["labels"], template["spec"]


def gateway(manifests: Sequence[Manifest]) -> Manifest:
    """Return the workload that serves: the Deployment, or the StatefulSet in its place."""
    (found,) = [each for each in manifests if each["kind"] in WORKLOADS - {"Job"}]
    return found


def settings_of(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Return the environment that the gateway's container gets from ConfigMaps."""
    names = [
        source["configMapRef"]["name"]
        for source in gateway(manifests)["spec"]["template"]["spec"]["containers"][0]["envFrom"]
    ]
    return {key: value for name in names for key, value in find(manifests, "ConfigMap", name)["data"].items()}


def selects(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Return whether all pairs of the selector are among the labels."""
    return bool(selector) and selector.items() <= labels.items()


def policy_selects(policy: Manifest, labels: Mapping[str, str]) -> bool:
    """Return whether a NetworkPolicy names these pods; not whether it is for all pods."""
    selector = policy["podSelector"]
    return selects(selector.get("matchLabels", {}), labels) and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", [])
    )


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}


def quantity(text: str | int) -> float:
    """Return a quantity of Kubernetes as a number: bytes or CPUs."""
    for unit, factor in _UNITS.items():
        if str(text).endswith(unit):
            return float(str(text).removesuffix(unit)) * factor
    return float(text)
