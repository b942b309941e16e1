"""What is wrong with the pods of a render: rights, resources, images, environment, volumes and references."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import SecretStr

from platform_app.config import Settings
from tests.support.deploy.manifests import Manifest, quantity, secret_keys, workloads

RESOURCES = ("cpu", "memory", "ephemeral-storage")
NOT_SETTINGS = {"COMMIT"}
"""Variables that the smoke Job reads."""
SETTINGS = {f"PLATFORM_{name.upper()}" for name in Settings.model_fields}
SECRETS = {
    f"PLATFORM_{name.upper()}"
    for name, field in Settings.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
} | {"PLATFORM_API_KEY_PEPPER", "PLATFORM_CHAT_KEY", "PLATFORM_ADMIN_KEY"}
_LOOKS_SECRET = re.compile(r"(KEY|TOKEN|PASSWORD|SECRET|PEPPER|CREDENTIALS?)$")
_HAS_PASSWORD = re.compile(r"://[^/\s:]*:[^@/\s]+@|\bfbp_(live|test)_|\bsk-\w{8}")
_COMMITTED = re.compile(r"^[\w./:-]+(:(?!latest\b)[\w.-]+)?(@sha256:[0-9a-f]{64})?$")


def pod_problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield one line for each problem."""
    for name, _, pod in workloads(manifests):
        for problem in (*_rights(pod), *_volumes(pod), *_references(pod, manifests)):
            yield f"{name}: {problem}"
        for container in (*pod["containers"], *pod.get("initContainers", [])):
            for problem in (
                *_container_rights(container), *_resources(container), *_image(container), *_environment(container)
            ):  # fmt: skip
                yield f"{name}, container {container['name']}: {problem}"
    for each in manifests:
        if each["kind"] == "ConfigMap":
            for problem in _config_map(each["data"]):
                yield f"ConfigMap {each['metadata']['name']}: {problem}"
        if each["kind"] == "Secret":
            yield f"Secret {each['metadata']['name']} is part of the render"
        if each["kind"] == "ServiceAccount" and each.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount {each['metadata']['name']}: mounts a token"


def _rights(pod: Manifest) -> Iterator[str]:
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is not false"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser") or "fsGroup" not in context:
        yield "may run as root, or has no fsGroup"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    for shared in ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"):
        if pod.get(shared):
            yield f"{shared} is set"


def _container_rights(container: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield "may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield "the root file system is writable"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield "keeps capabilities"
    if context.get("runAsUser") == 0 or context.get("runAsNonRoot") is False:
        yield "runs as root"


def _resources(container: Manifest) -> Iterator[str]:
    resources = container.get("resources", {})
    requests, limits = resources.get("requests", {}), resources.get("limits", {})
    for name in RESOURCES:
        if name not in requests or name not in limits:
            yield f"no request or limit of {name}"
        elif quantity(requests[name]) > quantity(limits[name]):
            yield f"requests more {name} than its limit"


def _image(container: Manifest) -> Iterator[str]:
    image = container["image"]
    last = image.rpartition("/")[2]
    if not _COMMITTED.match(image) or ":" not in last or last.endswith(":latest"):
        yield f"image {image} has no tag or digest, or latest"


def _environment(container: Manifest) -> Iterator[str]:
    for source in container.get("envFrom", []):
        if "secretRef" in source:
            yield "a Secret is in the environment"
    for variable in container.get("env", []):
        name = variable["name"]
        if "secretKeyRef" in variable.get("valueFrom", {}):
            yield f"{name}: a Secret is in the environment"
        yield from _variable(name, variable.get("value", ""))


def _config_map(data: Mapping[str, str]) -> Iterator[str]:
    for name, value in data.items():
        if "." in name:  # a file
            if _HAS_PASSWORD.search(value):
                yield f"{name}: contains a credential"
        else:
            yield from _variable(name, value)


def _variable(name: str, value: str) -> Iterator[str]:
    if name not in SETTINGS | NOT_SETTINGS | SECRETS and not name.startswith("OTEL_"):
        yield f"{name} is not a setting"
    plain_name = name in SECRETS or (name not in SETTINGS and _LOOKS_SECRET.search(name))
    if plain_name or _HAS_PASSWORD.search(value):
        yield f"{name} is a secret in the plain environment"


def _volumes(pod: Manifest) -> Iterator[str]:
    volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
    for volume in volumes.values():
        if "hostPath" in volume:
            yield f"volume {volume['name']} is a directory of the node"
        if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
            yield f"volume {volume['name']} has no size limit"
        if "secret" in volume and volume["secret"].get("defaultMode", 0o644) & 0o007:
            yield f"volume {volume['name']}: every user can read its files, which the store `file` refuses"
    for container in pod["containers"]:
        mounts = {mount["mountPath"]: mount for mount in container.get("volumeMounts", [])}
        if "emptyDir" not in volumes.get(mounts.get("/tmp", {}).get("name", ""), {}):
            yield "/tmp is not writable"
        for mount in mounts.values():
            volume = volumes.get(mount["name"], {})
            if ("secret" in volume or "configMap" in volume) and not mount.get("readOnly"):
                yield f"volume {mount['name']} is not mounted read-only"
            if "configMap" in volume and "subPath" in mount:
                yield f"volume {mount['name']}: a subPath never sees a change"


def _references(pod: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    existing = {(each["kind"], each["metadata"]["name"]) for each in manifests}
    existing |= {("Secret", name) for name in secret_keys()}
    used: set[tuple[str, str]] = {("ServiceAccount", pod.get("serviceAccountName", "default"))}
    for volume in pod.get("volumes", []):
        if "configMap" in volume:
            used.add(("ConfigMap", volume["configMap"]["name"]))
        if "secret" in volume:
            used.add(("Secret", volume["secret"]["secretName"]))
    for container in pod["containers"]:
        used |= {("ConfigMap", each["configMapRef"]["name"]) for each in _config_map_sources(container)}
    for kind, name in sorted(used - existing):
        yield f"{kind} {name} does not exist"


def _config_map_sources(container: Manifest) -> list[dict[str, Any]]:
    return [source for source in container.get("envFrom", []) if "configMapRef" in source]
