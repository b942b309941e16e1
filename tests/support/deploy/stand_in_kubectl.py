"""A stand-in for kubectl that records its calls and keeps Deployments and Jobs."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.release_lane.commands import Finished
from apps.release_lane.kubernetes.manifests import VERSION
from tests.support.deploy.stand_in_commands import FIRST

IMAGE = "registry.example/flowbiz-platform"
OK = Finished(0, "", "")
_POD = {
    "containers": [{"name": "gateway", "image": f"{IMAGE}:{FIRST}"}],
    "topologySpreadConstraints": [{"maxSkew": 1}],
}
DEPLOYMENT = {
    "metadata": {"name": "flowbiz-platform", "namespace": "flowbiz-production", "annotations": {}},
    "spec": {
        "replicas": 3,
        "selector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}},
        "template": {"metadata": {"labels": {"app.kubernetes.io/component": "gateway"}}, "spec": _POD},
    },
}
JOB = {
    "kind": "Job",
    "metadata": {"name": "flowbiz-platform-migrate"},
    "spec": {"template": {"spec": {"containers": [{"name": "migrate", "image": "x", "args": ["migrate", "up"]}]}}},
}


@dataclass
class StandInKubectl:
    """The calls, the Deployment as the cluster has it, and the objects that were applied."""

    calls: list[str] = field(default_factory=list)
    deployment: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(DEPLOYMENT))
    applied: list[dict[str, Any]] = field(default_factory=list)
    stdin: list[str] = field(default_factory=list)
    revisions: list[tuple[str, str]] = field(default_factory=lambda: [(f"{IMAGE}:{FIRST}", FIRST)])
    jobs: dict[str, Any] = field(default_factory=dict)
    """The Jobs that exist, by name."""
    fail: Callable[[str], Finished | None] = lambda _: None

    @property
    def image(self) -> str:
        return str(self.deployment["spec"]["template"]["spec"]["containers"][0]["image"])

    def run(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
        timeout: float = 600.0,
    ) -> Finished:
        """Note the call and act on it."""
        call = " ".join(arguments).replace(" --namespace flowbiz-production", "")
        self.calls.append(call)
        self.stdin.append(stdin)
        if (failed := self.fail(call)) is not None:
            return failed
        words = call.split()
        if words[1] == "get":
            return Finished(0, json.dumps(self.deployment), "")
        if words[1] == "auth":
            return Finished(0, "yes\n", "")
        if words[1] == "create":
            return Finished(
                0, json.dumps({"kind": "ConfigMap", "metadata": {"name": "x"}}) + "\n" + json.dumps(JOB), ""
            )
        if words[1] == "apply":
            self.applied.append(json.loads(stdin))
            if self.applied[-1]["kind"] == "Job":
                return self._apply_job(self.applied[-1])
        elif words[1] == "delete" and words[2].startswith("job/"):
            self.jobs.pop(words[2].removeprefix("job/"), None)
        elif words[1] == "patch":
            patch = json.loads(call.partition(" -p ")[2])
            [container] = patch["spec"]["template"]["spec"]["containers"]
            self.deployment["metadata"].setdefault("labels", {}).update(patch["metadata"]["labels"])
            self._set(container["image"], patch["spec"]["template"]["metadata"]["labels"][VERSION])
        elif words[1:3] == ["rollout", "undo"]:
            if len(self.revisions) < 2:
                return Finished(1, "", "error: no rollout history found for deployment")
            self._set(*self.revisions[-2])
        elif words[1] == "label":
            self.deployment["metadata"].setdefault("labels", {}).update([words[-1].split("=")])
        elif words[1] == "annotate":
            name, _, value = words[4].partition("=")
            annotations = self.deployment["metadata"]["annotations"]
            annotations.pop(name.removesuffix("-"), None)
            annotations |= {name: value} if value else {}
        elif words[1] == "exec":
            return Finished(0, json.dumps({"checks": [{"name": "chat", "status": "passed"}]}), "")
        return OK

    def of(self, *words: str) -> list[str]:
        """Return the calls that contain all words."""
        return [call for call in self.calls if all(word in call for word in words)]

    @property
    def versions(self) -> list[str]:
        """The labels of the Deployment and of its pods."""
        template = self.deployment["spec"]["template"]["metadata"]
        return [each["labels"][VERSION] for each in (self.deployment["metadata"], template)]

    def _apply_job(self, job: dict[str, Any]) -> Finished:
        name = job["metadata"]["name"]
        if self.jobs.setdefault(name, job) != job:
            return Finished(1, "", f'The Job "{name}" is invalid: spec.template: field is immutable')
        return OK

    def _set(self, image: str, version: str) -> None:
        template = self.deployment["spec"]["template"]
        template["spec"]["containers"][0]["image"] = image
        template["metadata"].setdefault("labels", {})[VERSION] = version
        self.revisions.append((image, version))
