"""The steps of a release and of a rollback in a cluster."""

import json
import re
from collections.abc import Callable
from typing import Any

from apps.release_lane.commands import Commands, Finished, checked
from apps.release_lane.errors import LaneError, UsageError
from apps.release_lane.host.operations import smoke_result
from apps.release_lane.journal import Operation
from apps.release_lane.kubernetes.manifests import (
    VERSION,
    Manifest,
    canary_of,
    image_of,
    migration_job,
    release_patch,
    version_of,
)
from apps.release_lane.settings import LaneSettings
from apps.release_lane.steps import Step

_SHA = re.compile(r"[0-9a-f]{40}")
_ACCESS = (
    ("patch", "deployments"),
    ("create", "deployments"),
    ("delete", "deployments"),
    ("create", "jobs"),
    ("delete", "jobs"),
    ("create", "pods/exec"),
)
_SMOKE = 'read -r PLATFORM_CHAT_KEY; export PLATFORM_CHAT_KEY; exec flowbiz-platform smoke "$@"'
"""The key comes from standard input: arguments are visible to everyone on the node."""
_PREVIOUS = "flowbiz.example/previous-release"
"""The annotation of the Deployment with the release to roll back to."""
_UNDONE = "Pods of the release before still serve. Fix the cause, then repeat the command."
_AGAIN = "Repeat the command: it continues. `deploy/rollback` returns to the release before."


class Cluster:
    """One Deployment in one namespace."""

    def __init__(self, settings: LaneSettings, commands: Commands) -> None:
        self._settings = settings
        self._of = settings.kubernetes
        self._commands = commands
        if not self._of.image:
            raise UsageError("lane.toml: [kubernetes] image is not set; expected the image without a tag")
        if not self._of.overlay:
            raise UsageError("lane.toml: [kubernetes] overlay is not set; expected the folder with the migration Job")

    def resolve(self, commit: str) -> str:
        """Return the SHA, which is the image's tag. Raises UsageError."""
        if not _SHA.fullmatch(commit):
            raise UsageError(f"'{commit}' is not a full commit SHA of 40 digits")
        return commit

    def serving(self) -> str | None:
        """Return the tag of the image that the Deployment names."""
        tag = image_of(self._deployment(), self._of.container).rpartition(":")[2]
        return tag or None

    def rollback_target(self, wanted: str | None, interrupted: Operation | None) -> str:
        """Return the release to roll back to: of an interrupted release the one that it was to replace, otherwise the
        one before the last, as the lane noted it. Raises UsageError.
        """
        if wanted is None and interrupted is not None:
            if interrupted.action == "rollback":
                wanted = interrupted.to
            elif interrupted.action == "release" and interrupted.previous != interrupted.to:
                wanted = interrupted.previous
        found = wanted or self._noted()
        if not found:
            raise UsageError("No release to roll back to is noted at the Deployment; name one: `deploy/rollback SHA`")
        return self.resolve(found)

    def steps(self, operation: Operation) -> list[Step]:
        """Return the steps."""
        release = operation.to
        if operation.action == "contract":
            does = "Run the Job of the contract migration"
            return [Step("contract migration", does, lambda: self._migrate(release, ["migrate", "contract"]), _AGAIN)]
        if operation.action == "rollback":
            return [
                Step("rollback", f"Return the Deployment to {release[:12]}", lambda: self._roll_back(release), _AGAIN),
                Step("wait", "Wait until its pods are ready", self._wait_for_rollout, _AGAIN),
                Step("record", "Note that a repeated rollback stays at it", lambda: self._note(release), _AGAIN),
                Step("canary ends", "Delete the canary", self._delete_canary, _AGAIN),
            ]
        canary = f"{self._of.deployment}-canary"
        return [
            Step(
                "preflight",
                "Check access and the Deployment",
                self._preflight,
                "Grant the lane's account what is missing.",
            ),
            Step("expand migration", "Run the migration Job", lambda: self._migrate(release, None), _UNDONE),
            Step("canary", f"Start one pod, {canary}, without traffic", lambda: self._canary(release), _UNDONE),
            Step("smoke", "Run the smoke checks in the canary", lambda: self._smoke(release), _UNDONE),
            Step("set image", "Let the Deployment replace its pods", lambda: self._set_image(release), _AGAIN),
            Step("wait", "Wait until its pods are ready", self._wait_for_rollout, _AGAIN),
            Step("record", "Note the release before at the Deployment", lambda: self._record(operation), _AGAIN),
            Step("canary ends", "Delete the canary", self._delete_canary, _AGAIN),
        ]

    def undo(self, operation: Operation) -> Callable[[], str] | None:
        """Return what takes a failed release back, also one that was interrupted after it had set the image."""
        before, noted = image_of(self._deployment(), self._of.container), self._noted()
        if operation.previous is not None and version_of(before) != operation.previous:
            before = self._image(operation.previous)

        def undo() -> str:
            done = self._delete_canary()
            if image_of(self._deployment(), self._of.container) == before:
                return done
            self._return_to(before)
            done = f"{done}; {self._wait_for_rollout()}"
            self._note(noted)
            return done

        return undo

    @property
    def _name(self) -> str:
        return f"deployment/{self._of.deployment}"

    def _preflight(self) -> str:
        for verb, resource in _ACCESS:
            if self._kubectl("auth", "can-i", verb, resource, ok=(0, 1)).stdout.strip() != "yes":
                raise LaneError(f"the account of kubectl may not {verb} {resource} in {self._of.namespace}")
        return f"access is sufficient; the Deployment has {image_of(self._deployment(), self._of.container)}"

    def _migrate(self, release: str, arguments: list[str] | None) -> str:
        rendered = self._commands.run(["kubectl", "kustomize", self._of.overlay])
        if rendered.code != 0:
            raise LaneError(
                f"kubectl kustomize {self._of.overlay}: {rendered.last_lines()}", "Set overlay in lane.toml."
            )
        manifests = self._kubectl("create", "--dry-run=client", "-o", "json", "-f", "-", stdin=rendered.stdout).stdout
        suffix = release[:12] if arguments is None else f"contract-{release[:12]}"
        job: dict[str, Any] = dict(migration_job(manifests, self._of.migration_job, self._image(release), suffix))
        if arguments is not None:
            for container in job["spec"]["template"]["spec"]["containers"]:
                container["args"] = arguments
        name = job["metadata"]["name"]
        # A Job cannot be changed, and one that is complete would not run again, although the database was restored.
        self._delete_job(name)
        self._apply(job)
        seconds = self._settings.start_seconds * 5
        wait = self._kubectl("wait", "--for=condition=complete", f"job/{name}", f"--timeout={seconds:g}s", ok=(0, 1))
        if wait.code != 0:
            log = self._kubectl("logs", f"job/{name}", "--tail=20", ok=(0, 1)).last_lines()
            self._delete_job(name)
            raise LaneError(f"job/{name} did not complete:\n{log}")
        printed = self._kubectl("logs", f"job/{name}", "--tail=20", ok=None)
        shown = printed.stdout.strip() if printed.code == 0 else ""
        return f"job/{name} is complete" + (f":\n{shown}".replace("\n", "\n      ") if shown else "")

    def _delete_job(self, name: str) -> None:
        """Delete a Job, and wait until its pods have ended: two migrations must not run at the same time."""
        self._kubectl("delete", f"job/{name}", "--ignore-not-found", "--cascade=foreground", "--wait=true")

    def _canary(self, release: str) -> str:
        canary = canary_of(self._deployment(), self._of.container, self._image(release))
        self._apply(canary)
        name = canary["metadata"]["name"]
        self._kubectl("rollout", "status", f"deployment/{name}", f"--timeout={self._settings.start_seconds:g}s")
        return f"{name} is ready"

    def _smoke(self, release: str) -> str:
        try:
            key = self._settings.smoke_key_file.read_text().strip()
        except OSError as error:
            raise LaneError(f"{self._settings.smoke_key_file}: {error.strerror}") from None
        options = [
            "--base-url", "http://127.0.0.1:8100", "--metrics-url", "http://127.0.0.1:9100/metrics",
            "--expect-sha", release, "--json", "--timeout", f"{self._settings.smoke_seconds:g}",
        ]  # fmt: skip
        pod = ["exec", "-i", f"{self._name}-canary", "-c", self._of.container, "--"]
        done = self._kubectl(*pod, "sh", "-c", _SMOKE, "sh", *options, stdin=key + "\n", ok=None)
        return smoke_result(done.code, done.stdout, done.last_lines())

    def _set_image(self, release: str) -> str:
        before = image_of(self._deployment(), self._of.container)
        image = self._image(release)
        self._set(image, f"deploy/release {release}")
        return f"{before} is replaced by {image}"

    def _record(self, operation: Operation) -> str:
        """Note the release before once the new one is rolled out: until then, the release before the last is right."""
        if operation.previous in (None, operation.to):
            return "the release was rolled out before"
        return self._note(operation.previous)

    def _wait_for_rollout(self) -> str:
        seconds = self._settings.start_seconds * 5
        self._kubectl("rollout", "status", self._name, f"--timeout={seconds:g}s")
        return f"{self._name} is rolled out"

    def _roll_back(self, release: str) -> str:
        """Undo the last rollout if that is the wanted release; set the image otherwise. Repeating changes nothing."""
        now, wanted = image_of(self._deployment(), self._of.container), self._image(release)
        if now == wanted:
            return f"the Deployment already has {wanted}"
        self._return_to(wanted)
        return f"{now} is replaced by {wanted}"

    def _return_to(self, image: str) -> None:
        """Undo the last rollout, with its settings; set the image if there is none, or if it had another image."""
        undone = self._kubectl("rollout", "undo", self._name, ok=None)
        if undone.code != 0 or image_of(self._deployment(), self._of.container) != image:
            self._set(image, f"deploy/rollback {version_of(image)}")
        else:
            self._label(image)

    def _set(self, image: str, cause: str) -> None:
        patch = json.dumps(release_patch(self._of.container, image, cause))
        self._kubectl("patch", self._name, "--type=strategic", "-p", patch)

    def _noted(self) -> str | None:
        """Return the release to roll back to that is noted at the Deployment."""
        found: str | None = (self._deployment()["metadata"].get("annotations") or {}).get(_PREVIOUS)
        return found

    def _note(self, release: str | None) -> str:
        """Note the release to roll back to; remove the note if there is none."""
        note = f"{_PREVIOUS}-" if release is None else f"{_PREVIOUS}={release}"
        self._kubectl("annotate", "--overwrite", self._name, note)
        return f"a rollback returns to {release or 'no release'}"

    def _label(self, image: str) -> None:
        """Label the Deployment itself; its pods have the label of the revision that was returned to."""
        self._kubectl("label", "--overwrite", self._name, f"{VERSION}={version_of(image)}")

    def _delete_canary(self) -> str:
        self._kubectl("delete", f"{self._name}-canary", "--ignore-not-found", "--wait=false")
        return "no canary runs"

    def _deployment(self) -> Manifest:
        found: Manifest = json.loads(self._kubectl("get", self._name, "-o", "json").stdout)
        return found

    def _apply(self, manifest: Manifest) -> None:
        self._kubectl("apply", "-f", "-", stdin=json.dumps(manifest))

    def _image(self, release: str) -> str:
        return f"{self._of.image}:{release}"

    def _kubectl(self, *arguments: str, stdin: str = "", ok: tuple[int, ...] | None = (0,)) -> Finished:
        context = ["--context", self._of.context] if self._of.context else []
        command = ["kubectl", *context, "--namespace", self._of.namespace, *arguments]
        if ok == (0,):
            remedy = "Check the cluster with the same command, then repeat this one."
            return checked(self._commands, command, remedy, stdin=stdin, timeout=3600.0)
        done = self._commands.run(command, stdin=stdin, timeout=3600.0)
        if ok is not None and done.code not in ok:
            raise LaneError(f"{' '.join(command[:6])} … exited with {done.code}:\n{done.last_lines()}")
        return done
