"""Manifests that the lane makes from others, as JSON."""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from apps.release_lane.errors import LaneError

COMPONENT = "app.kubernetes.io/component"
VERSION = "app.kubernetes.io/version"
"""The label with the SHA. It is in no selector, because a selector cannot be changed."""
CANARY = "gateway-canary"
"""The component of the canary's pod: no Service selects it, and the NetworkPolicy of the gateway does."""
Manifest = Mapping[str, Any]


def canary_of(deployment: Manifest, container: str, image: str) -> Manifest:
    """Return a Deployment of one pod with another image. No Service sends it traffic."""
    name = deployment["metadata"]["name"] + "-canary"
    spec = copy.deepcopy(deployment["spec"])
    template = spec["template"]
    labels = {**template["metadata"].get("labels", {}), COMPONENT: CANARY, VERSION: version_of(image)}
    spec["replicas"] = 1
    spec["selector"] = {"matchLabels": {name: value for name, value in labels.items() if name != VERSION}}
    template["metadata"] = {**template["metadata"], "labels": labels}
    template["spec"].pop("topologySpreadConstraints", None)  # they select the labels of the others
    set_image(template["spec"], container, image)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": deployment["metadata"].get("namespace"), "labels": labels},
        "spec": spec,
    }


def migration_job(manifests: str, name: str, image: str, suffix: str) -> Manifest:
    """Return the Job of this name among JSON documents, with another image and a name of this release.

    Raises:
        LaneError: there is no such Job.
    """
    for manifest in documents(manifests):
        if manifest.get("kind") == "Job" and manifest["metadata"]["name"] == name:
            job = copy.deepcopy(dict(manifest))
            job["metadata"] = {**job["metadata"], "name": f"{name}-{suffix}"}
            for metadata in (job["metadata"], job["spec"]["template"].setdefault("metadata", {})):
                metadata["labels"] = {**metadata.get("labels", {}), VERSION: version_of(image)}
            for container in job["spec"]["template"]["spec"]["containers"]:
                container["image"] = image
            return job
    raise LaneError(f"the overlay has no Job {name}", "Set overlay and migration_job in lane.toml.")


def release_patch(container: str, image: str, cause: str) -> Manifest:
    """Return the change of a Deployment to another image, for one rollout: with the label of its version, and the cause
    that `kubectl rollout history` shows.
    """
    labels = {"labels": {VERSION: version_of(image)}}
    metadata = {**labels, "annotations": {"kubernetes.io/change-cause": cause}}
    containers = [{"name": container, "image": image}]
    return {"metadata": metadata, "spec": {"template": {"metadata": labels, "spec": {"containers": containers}}}}


def version_of(image: str) -> str:
    """Return the tag of an image."""
    return image.rpartition(":")[2]


def set_image(pod: dict[str, Any], container: str, image: str) -> None:
    """Replace the image of a container, and of init containers that use the same image.

    Raises:
        LaneError: the pod has no container of this name.
    """
    found = next((each for each in pod["containers"] if each["name"] == container), None)
    if found is None:
        names = ", ".join(each["name"] for each in pod["containers"])
        raise LaneError(f"the pods have no container '{container}', but {names}", "Set container in lane.toml.")
    for each in (found, *(init for init in pod.get("initContainers", []) if init["image"] == found["image"])):
        each["image"] = image


def image_of(deployment: Manifest, container: str) -> str:
    """Return the image of a container, or an empty text."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    return next((str(each["image"]) for each in containers if each["name"] == container), "")


def documents(text: str) -> Iterator[Manifest]:
    """Yield the objects of JSON documents in a row; of a List its items."""
    decoder, position = json.JSONDecoder(), 0
    while position < len(text.rstrip()):
        while text[position].isspace():
            position += 1
        found, position = decoder.raw_decode(text, position)
        yield from found["items"] if found.get("kind") == "List" else [found]
