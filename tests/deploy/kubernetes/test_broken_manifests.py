"""Each check finds the manifest that is broken for it."""

from typing import Any

import pytest

from platform_app.config import Settings
from tests.deploy.kubernetes.conftest import LoadsSettings
from tests.support.deploy.cluster_checks import cluster_problems, monitoring_problems, network_problems
from tests.support.deploy.gateway_checks import gateway_problems, selector_problems
from tests.support.deploy.manifests import Manifest, overlay
from tests.support.deploy.pod_checks import pod_problems

REMOVED = object()
POD = "spec.template.spec"
CONTAINER = f"{POD}.containers.0"
SETTINGS = "ConfigMap flowbiz-platform-settings"


def break_it(manifests: list[Manifest], what: str, path: str, value: object) -> None:
    """Set or remove one field; `what` is the kind, or kind and the beginning of the name."""
    kind, _, name = what.partition(" ")
    (manifest,) = [
        each for each in manifests
        if each["kind"] == kind and (not name or each["metadata"]["name"].startswith(name))
    ]  # fmt: skip
    *steps, last = path.split(".") if "/" not in path else path.split("|")
    place: Any = manifest
    for step in steps:
        place = place[int(step) if step.isdigit() else step]
    key = int(last) if last.isdigit() else last
    if value is REMOVED:
        del place[key]
    else:
        place[key] = value


@pytest.mark.parametrize(
    ("what", "path", "value", "expected"),
    [
        ("Deployment", f"{POD}.enableServiceLinks", REMOVED, "enableServiceLinks"),
        ("Job flowbiz-platform-smoke", f"{POD}.enableServiceLinks", True, "enableServiceLinks"),
        ("Deployment", f"{POD}.automountServiceAccountToken", REMOVED, "automountServiceAccountToken"),
        ("ServiceAccount flowbiz-platform-jobs", "automountServiceAccountToken", REMOVED, "mounts a token"),
        ("Deployment", f"{POD}.securityContext.runAsNonRoot", REMOVED, "may run as root"),
        ("Deployment", f"{POD}.securityContext.runAsUser", 0, "may run as root"),
        ("Deployment", f"{POD}.securityContext.fsGroup", REMOVED, "no fsGroup"),
        ("Deployment", f"{POD}.securityContext.seccompProfile", REMOVED, "no seccomp profile"),
        ("Deployment", f"{POD}.hostNetwork", True, "hostNetwork"),
        ("Deployment", f"{CONTAINER}.securityContext.allowPrivilegeEscalation", REMOVED, "may gain privileges"),
        ("Deployment", f"{CONTAINER}.securityContext.privileged", True, "may gain privileges"),
        ("Deployment", f"{CONTAINER}.securityContext.readOnlyRootFilesystem", False, "file system is writable"),
        ("Deployment", f"{CONTAINER}.securityContext.capabilities", {"drop": ["ALL"], "add": ["SYS_ADMIN"]}, "keeps"),
        ("Deployment", f"{CONTAINER}.securityContext.runAsUser", 0, "runs as root"),
        ("Deployment", f"{CONTAINER}.resources.limits.memory", REMOVED, "no request or limit of memory"),
        ("Deployment", f"{CONTAINER}.resources.limits.cpu", REMOVED, "no request or limit of cpu"),
        ("Job flowbiz-platform-migrate", f"{CONTAINER}.resources", REMOVED, "no request or limit of memory"),
        ("Deployment", f"{CONTAINER}.resources.requests.cpu", "9", "requests more cpu"),
        ("Deployment", f"{CONTAINER}.image", "registry.example:5000/flowbiz", "no tag or digest"),
        ("Deployment", f"{CONTAINER}.image", "registry.example/flowbiz:latest", "no tag or digest, or latest"),
        ("Deployment", f"{CONTAINER}.env", [{"name": "PLATFORM_PORTS", "value": "1"}], "is not a setting"),
        (SETTINGS, "data.PLATFORM_DATABASE_URL", "postgresql://host/db", "secret in the plain environment"),
        (SETTINGS, "data.PLATFORM_API_KEY_PEPPER", "1:x", "secret in the plain environment"),
        (SETTINGS, "data.OPENAI_API_KEY", "x", "secret in the plain environment"),
        (SETTINGS, "data.PLATFORM_OPENAI_BASE_URL", "https://me:word@proxy", "secret in the plain environment"),
        ("Deployment", f"{CONTAINER}.envFrom.0", {"secretRef": {"name": "flowbiz-platform"}}, "a Secret is in"),
        (
            "Deployment",
            f"{CONTAINER}.env",
            [{"name": "PLATFORM_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}],
            "a Secret is in the environment",
        ),
        ("Deployment", f"{POD}.volumes.0", {"name": "config", "hostPath": {"path": "/"}}, "directory of the node"),
        ("Deployment", f"{POD}.volumes.1.secret.defaultMode", REMOVED, "every user can read"),
        ("Deployment", f"{POD}.volumes.1.secret.secretName", "other", "Secret other does not exist"),
        ("Deployment", f"{POD}.volumes.0.configMap.name", "other", "ConfigMap other does not exist"),
        ("Deployment", f"{CONTAINER}.envFrom.0.configMapRef.name", "other", "ConfigMap other does not exist"),
        ("Job flowbiz-platform-smoke", f"{POD}.serviceAccountName", REMOVED, "ServiceAccount default does not exist"),
        ("Deployment", f"{POD}.volumes.2.emptyDir", {}, "has no size limit"),
        ("Deployment", f"{CONTAINER}.volumeMounts.3.mountPath", "/var/tmp", "/tmp is not writable"),
        ("Deployment", f"{CONTAINER}.volumeMounts.1.readOnly", False, "not mounted read-only"),
        ("Deployment", f"{CONTAINER}.volumeMounts.0.subPath", "platform.yaml", "never sees a change"),
    ],
)  # fmt: skip
def test_pod_check_finds(what: str, path: str, value: object, expected: str) -> None:
    manifests = overlay("production")
    break_it(manifests, what, path, value)
    assert any(expected in problem for problem in pod_problems(manifests))


@pytest.mark.parametrize(
    ("what", "path", "value", "expected"),
    [
        ("Deployment", f"{CONTAINER}.ports.0.containerPort", 8000, "are not those of the settings"),
        ("Deployment", f"{CONTAINER}.readinessProbe.httpGet.path", "/livez", "does not request /readyz"),
        ("Deployment", f"{CONTAINER}.livenessProbe", REMOVED, "the liveness probe does not request"),
        ("Deployment", f"{CONTAINER}.startupProbe.failureThreshold", 10, "startup probe gives up"),
        ("Deployment", f"{CONTAINER}.livenessProbe.failureThreshold", 3, "before the parent can replace"),
        ("Deployment", f"{CONTAINER}.readinessProbe.timeoutSeconds", 1, "database's timeout"),
        ("Deployment", f"{CONTAINER}.lifecycle", REMOVED, "preStop does not wait"),
        ("Deployment", f"{POD}.terminationGracePeriodSeconds", 322, "terminationGracePeriodSeconds is below"),
        ("Deployment", f"{CONTAINER}.volumeMounts.2.mountPath", "/var/lib/other", "is on no writable mount"),
        ("Deployment", f"{POD}.volumes.2.emptyDir.sizeLimit", "1Gi", "not larger than PLATFORM_SPOOL_MAX_BYTES"),
        ("Deployment", f"{CONTAINER}.resources.limits.ephemeral-storage", "1Gi", "below the volumes'"),
        ("HorizontalPodAutoscaler", "spec.scaleTargetRef.name", "other", "target does not exist"),
        ("HorizontalPodAutoscaler", "spec.scaleTargetRef.kind", "StatefulSet", "target does not exist"),
        ("HorizontalPodAutoscaler", "spec.minReplicas", 7, "minReplicas is above"),
        ("HorizontalPodAutoscaler", "spec.minReplicas", 1, "fewer than two"),
        ("HorizontalPodAutoscaler", "spec.maxReplicas", 5, "PLATFORM_REPLICAS is not maxReplicas"),
        ("HorizontalPodAutoscaler", "spec.maxReplicas", 20, "connections are too many"),
        ("Deployment", "spec.replicas", 2, "replicas is set"),
        ("PodDisruptionBudget", "spec.maxUnavailable", 0, "blocks every eviction"),
        ("PodDisruptionBudget", "spec.selector.matchLabels", {"app": "other"}, "selects other pods"),
        ("Deployment", "spec.strategy.rollingUpdate.maxUnavailable", 1, "removes an instance"),
        ("Deployment", f"{POD}.topologySpreadConstraints", [], "not spread"),
    ],
)
def test_gateway_check_finds(load_rendered: LoadsSettings, what: str, path: str, value: object, expected: str) -> None:
    manifests = overlay("production")
    break_it(manifests, what, path, value)
    assert any(expected in problem for problem in gateway_problems(manifests, load_rendered(manifests)))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shutdown_grace_seconds": 60}, "below the longest stream"),
        ({"shutdown_drain_seconds": 30.0}, "terminationGracePeriodSeconds is below"),
        ({"spool_max_bytes": 2 << 30}, "not larger than PLATFORM_SPOOL_MAX_BYTES"),
        ({"worker_timeout_seconds": 90.0}, "before the parent can replace"),
        ({"port": 8101}, "are not those of the settings"),
        ({"database_pool_size": 5}, "connections are too many"),
    ],
)
def test_gateway_check_finds_changed_setting(
    load_rendered: LoadsSettings, changes: dict[str, Any], expected: str
) -> None:
    manifests = overlay("production")
    settings: Settings = load_rendered(manifests).model_copy(update=changes)
    assert any(expected in problem for problem in gateway_problems(manifests, settings))


@pytest.mark.parametrize(
    ("what", "path", "value", "expected"),
    [
        ("Deployment", "spec|selector|matchLabels|app.kubernetes.io/component", "other", "does not match its pods"),
        ("Service flowbiz-platform-metrics", "spec.selector", {"app": "other"}, "does not select"),
        ("Service flowbiz-platform-metrics", "spec|selector|app.kubernetes.io/component", REMOVED, "does not select"),
        ("Service flowbiz-platform-metrics", "spec.ports.0.targetPort", "other", "has no port other"),
        ("NetworkPolicy migrate", "spec.podSelector.matchLabels", {"app": "other"}, "selects no pod"),
        ("Service flowbiz-platform-metrics", "metadata.namespace", "default", "is not in the namespace"),
        ("NetworkPolicy dns", "metadata.labels", {}, "has no component"),
        ("ConfigMap flowbiz-platform-config", "data.more", "x" * 300_000, "too large"),
        ("Namespace", "metadata.labels", {}, "does not enforce"),
        ("Job flowbiz-platform-smoke", "spec|template|metadata|labels|app.kubernetes.io/version", "1", "is not the"),
        ("Job flowbiz-platform-migrate", f"{CONTAINER}.image", "a:b", "run different images"),
        ("NetworkPolicy default-deny", "spec.policyTypes", ["Ingress"], "denies everything by default"),
        ("NetworkPolicy gateway", "spec.ingress.1.from.0", {"namespaceSelector": {}}, "metrics are readable"),
        ("NetworkPolicy gateway", "spec.ingress.0.from", REMOVED, "has no peer"),
        ("NetworkPolicy gateway", "spec.ingress.0.ports", REMOVED, "the ports from others"),
        ("NetworkPolicy gateway", "spec.egress.0.ports.0.port", 5433, "the ports to others"),
        ("NetworkPolicy gateway", "spec.egress.1.to.0.ipBlock.except", [], "169.254.169.254/32 is reachable"),
        ("NetworkPolicy gateway", "spec.egress.1.ports", REMOVED, "reachable on other ports"),
        ("ServiceMonitor", "apiVersion", "monitoring.coreos.com/v2", "is not served"),
        ("ServiceMonitor", "spec.endpoint", [], "unknown fields"),
        ("ServiceMonitor", "spec.endpoints.0.port", "http", "selects no Service"),
        ("ServiceMonitor", "spec.jobLabel", "app", "the job would be"),
        ("PrometheusRule", "spec.groups.0.rules", [], "alerts/platform.yml"),
        ("PrometheusRule", "spec.groups.0.rules.0.alert", "Both", "is not a rule"),
        ("ConfigMap flowbiz-dashboard-overview", "data", {}, "are not those of dashboards/"),
    ],
)
def test_cluster_check_finds(what: str, path: str, value: object, expected: str) -> None:
    manifests = overlay("production")
    break_it(manifests, what, path, value)
    problems = [
        *selector_problems(manifests), *cluster_problems(manifests, "flowbiz-production"),
        *network_problems(manifests), *monitoring_problems(manifests),
    ]  # fmt: skip
    assert any(expected in problem for problem in problems)


def test_secret_in_the_render_is_found() -> None:
    manifests = overlay("production")
    manifests.append({"kind": "Secret", "metadata": {"name": "flowbiz-platform"}, "data": {}})
    assert any("is part of the render" in problem for problem in pod_problems(manifests))
