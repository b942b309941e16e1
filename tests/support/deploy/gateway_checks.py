"""What is wrong with the gateway's workload beside its settings: probes, times, spool, connections and availability."""

from collections.abc import Iterator, Sequence

from apps.platform_cli.serve.command import CONNECTIONS_BESIDE_POOL
from apps.platform_cli.serve.supervisor import START_SECONDS
from platform_app.config import Settings
from tests.support.deploy.manifests import Manifest, find, gateway, policy_selects, quantity, selects, workloads

MINIMUM_PRE_STOP_SECONDS = 5
AFTER_GRACE_SECONDS = 5
"""Cancelling what remains, and sending the spool (docs/operations.md)."""
CONNECTIONS_OF_POSTGRESQL = 100 - 3
"""Its default, less those for superusers."""
CONNECTIONS_FOR_OPERATORS = 10


def gateway_problems(manifests: Sequence[Manifest], settings: Settings) -> Iterator[str]:
    """Yield one line for each problem. `settings` are those of the render."""
    workload = gateway(manifests)
    pod = workload["spec"]["template"]["spec"]
    yield from _probes(pod["containers"][0], settings)
    yield from _times(pod, settings)
    yield from _spool(workload, settings)
    yield from _availability(manifests, settings)


def _probes(container: Manifest, settings: Settings) -> Iterator[str]:
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    if ports != {"http": settings.port, "metrics": settings.metrics_port}:
        yield f"the ports {ports} are not those of the settings"
    for name, path in {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}.items():
        probe = container.get(f"{name}Probe", {})
        if probe.get("httpGet") != {"path": path, "port": "http"}:
            yield f"the {name} probe does not request {path} of the public port"
            return
    startup, liveness, readiness = (container[f"{name}Probe"] for name in ("startup", "liveness", "readiness"))
    if _seconds(startup) < settings.start_timeout_seconds + max(START_SECONDS, settings.worker_timeout_seconds):
        yield "the startup probe gives up before the gateway does"
    if _seconds(liveness) <= settings.worker_timeout_seconds:
        yield "the liveness probe restarts the pod before the parent can replace a hung worker"
    if readiness["timeoutSeconds"] <= settings.database_timeout_seconds:
        yield "the readiness probe does not wait for the database's timeout"


def _seconds(probe: Manifest) -> float:
    return float(probe["periodSeconds"] * probe["failureThreshold"])


def _times(pod: Manifest, settings: Settings) -> Iterator[str]:
    pre_stop = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    if pre_stop < MINIMUM_PRE_STOP_SECONDS:
        yield "preStop does not wait until the endpoints are updated"
    needed = pre_stop + settings.shutdown_drain_seconds + settings.shutdown_grace_seconds + AFTER_GRACE_SECONDS
    if pod["terminationGracePeriodSeconds"] < needed:
        yield f"terminationGracePeriodSeconds is below {needed:g}: preStop, drain, grace and the end"
    if settings.shutdown_grace_seconds < settings.provider_total_timeout_seconds:
        yield "PLATFORM_SHUTDOWN_GRACE_SECONDS is below the longest stream"


def _spool(workload: Manifest, settings: Settings) -> Iterator[str]:
    pod = workload["spec"]["template"]["spec"]
    container = pod["containers"][0]
    mounts = [
        mount for mount in container["volumeMounts"]
        if settings.spool_dir.is_relative_to(mount["mountPath"]) and not mount.get("readOnly")
    ]  # fmt: skip
    if not mounts:
        yield f"PLATFORM_SPOOL_DIR={settings.spool_dir} is on no writable mount"
        return
    volumes = {volume["name"]: volume.get("emptyDir", {}).get("sizeLimit") for volume in pod["volumes"]}
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        volumes[claim["metadata"]["name"]] = claim["spec"]["resources"]["requests"]["storage"]
    size = volumes.get(mounts[0]["name"])
    if size is None or quantity(size) < settings.spool_max_bytes * 1.25:
        yield "the spool's volume is not larger than PLATFORM_SPOOL_MAX_BYTES"
    ephemeral = sum(
        quantity(volume["emptyDir"]["sizeLimit"])
        for volume in pod["volumes"] if "sizeLimit" in volume.get("emptyDir", {})
    )  # fmt: skip
    if quantity(container["resources"]["limits"]["ephemeral-storage"]) < ephemeral:
        yield "the limit of ephemeral-storage is below the volumes'"


def _availability(manifests: Sequence[Manifest], settings: Settings) -> Iterator[str]:
    workload, scaler = gateway(manifests), find(manifests, "HorizontalPodAutoscaler")["spec"]
    budget = find(manifests, "PodDisruptionBudget")["spec"]
    target = scaler["scaleTargetRef"]
    least, most = scaler["minReplicas"], scaler["maxReplicas"]
    if (target["kind"], target["name"]) != (workload["kind"], workload["metadata"]["name"]):
        yield "the autoscaler's target does not exist"
    if "replicas" in workload["spec"]:
        yield "replicas is set, which a release would reset"
    if not 1 <= least <= most:
        yield "minReplicas is above maxReplicas"
    if settings.env != "dev" and least < 2:
        yield "fewer than two instances"
    if settings.replicas != most:
        yield "PLATFORM_REPLICAS is not maxReplicas"
    if budget.get("maxUnavailable") != 1 and not budget.get("minAvailable", least) < least:
        yield "the disruption budget blocks every eviction"
    labels = workload["spec"]["template"]["metadata"]["labels"]
    if not selects(budget["selector"]["matchLabels"], labels):
        yield "the disruption budget selects other pods"
    rolling = workload["spec"].get("strategy", {}).get("rollingUpdate")
    if workload["kind"] == "Deployment" and (rolling is None or rolling["maxUnavailable"] != 0):
        yield "a rollout removes an instance before the next one is ready"
    surge = rolling["maxSurge"] if rolling else 0
    connections = (settings.database_pool_size + CONNECTIONS_BESIDE_POOL) * settings.workers * (most + surge)
    if connections + CONNECTIONS_FOR_OPERATORS > CONNECTIONS_OF_POSTGRESQL:
        yield f"{connections} connections are too many for PostgreSQL's default"
    topologies = {
        each["topologyKey"]
        for each in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", [])
        if selects(each["labelSelector"]["matchLabels"], labels)
    }
    if topologies != {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}:
        yield "the instances are not spread over nodes and zones"


def selector_problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield one line for each selector that finds nothing, or the wrong pods."""
    pods = {name: labels for name, labels, _ in workloads(manifests)}
    serving = gateway(manifests)["spec"]
    if not selects(serving["selector"]["matchLabels"], serving["template"]["metadata"]["labels"]):
        yield "the gateway's selector does not match its pods"
    ports = {port["name"] for port in serving["template"]["spec"]["containers"][0]["ports"]}
    for each in manifests:
        name = f"{each['kind']} {each['metadata']['name']}"
        if each["kind"] == "Service":
            found = [pod for pod, labels in pods.items() if selects(each["spec"]["selector"], labels)]
            if len(found) != 1 or "Job" in found[0]:
                yield f"{name} does not select the gateway's pods alone"
            for port in each["spec"]["ports"]:
                if port["targetPort"] not in ports:
                    yield f"{name}: the container has no port {port['targetPort']}"
        named = each["kind"] == "NetworkPolicy" and each["spec"]["podSelector"]
        if named and not any(policy_selects(each["spec"], labels) for labels in pods.values()):
            yield f"{name} selects no pod"
