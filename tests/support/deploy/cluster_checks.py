"""What is wrong with a render as a whole: names, labels, network policies, and what the Prometheus operator reads."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from ipaddress import ip_network
from typing import Any

import yaml

from tests.support.deploy.manifests import CLUSTER_SCOPED, Manifest, find, policy_selects, selects, workloads
from tests.support.paths import ROOT

COMPONENTS = {"foundation", "gateway", "metrics", "migrate", "smoke", "monitoring"}
"""The release applies the manifests in steps, by this label."""
APPLY_LIMIT_BYTES = 262_144
"""`kubectl apply` keeps the object in an annotation, which may have at most these bytes."""
PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "169.254.169.254/32", "172.16.0.0/12", "192.168.0.0/16")
EGRESS = {
    "gateway": {("UDP", 53), ("TCP", 53), ("TCP", 5432), ("TCP", 6379), ("TCP", 443), ("TCP", 4317), ("TCP", 4318)},
    "migrate": {("UDP", 53), ("TCP", 53), ("TCP", 5432)},
    "smoke": {("UDP", 53), ("TCP", 53), ("TCP", 8100)},
}
INGRESS = {"gateway": {("TCP", 8100), ("TCP", 9100)}, "migrate": set(), "smoke": set()}
RULE_FIELDS = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}


def cluster_problems(manifests: Sequence[Manifest], namespace: str) -> Iterator[str]:
    """Yield one line for each problem of names, labels and sizes."""
    for each in manifests:
        name, metadata = f"{each['kind']} {each['metadata']['name']}", each["metadata"]
        if each["kind"] not in CLUSTER_SCOPED and metadata.get("namespace") != namespace:
            yield f"{name} is not in the namespace {namespace}"
        if metadata.get("labels", {}).get("app.kubernetes.io/component") not in COMPONENTS:
            yield f"{name} has no component, so no step of the release applies it"
        if len(json.dumps(each)) > APPLY_LIMIT_BYTES * 0.9:
            yield f"{name} is too large for kubectl apply"
    space = find(manifests, "Namespace")["metadata"]
    if space["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
        yield "the namespace does not enforce the restricted Pod Security Standard"
    for name, labels, pod in workloads(manifests):
        version = labels.get("app.kubernetes.io/version", "")
        if f":{version}" not in pod["containers"][0]["image"]:
            yield f"{name}: the label app.kubernetes.io/version is not the image's tag"
    if len({pod["containers"][0]["image"] for _, _, pod in workloads(manifests)}) != 1:
        yield "the gateway and the Jobs run different images"


def network_problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield one line for each flow that is allowed and should not be, or the other way around."""
    policies = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
    if not any(policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} for policy in policies):
        yield "no policy denies everything by default"
    for name, labels, _ in workloads(manifests):
        component = labels["app.kubernetes.io/component"]
        own = [policy for policy in policies if policy_selects(policy, labels)]
        outward = [rule for policy in own for rule in policy.get("egress", [])]
        inward = [rule for policy in own for rule in policy.get("ingress", [])]
        for direction, rules, expected in (("to", outward, EGRESS), ("from", inward, INGRESS)):
            if _ports(rules) != expected[component]:
                yield f"{name}: the ports {direction} others are {sorted(_ports(rules))}"
            if not all(rule.get(direction) for rule in rules):
                yield f"{name}: a rule has no peer, so it allows every address"
        yield from (f"{name}: {problem}" for problem in (*_open_egress(outward), *_metrics(inward)))


def _ports(rules: Sequence[Mapping[str, Any]]) -> set[tuple[str, int]]:
    every = [{"protocol": "any", "port": 0}]
    return {(port["protocol"], port["port"]) for rule in rules for port in rule.get("ports", every)}


def _open_egress(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
        for block in blocks:
            if ip_network(block["cidr"]).is_private:
                continue
            if _ports([rule]) != {("TCP", 443)}:
                yield f"{block['cidr']} is reachable on other ports than 443"
            excluded = [ip_network(each) for each in block.get("except", [])]
            for private in PRIVATE:
                if not any(ip_network(private).subnet_of(each) for each in excluded):  # type: ignore[arg-type]
                    yield f"{private} is reachable on port 443"


def _metrics(rules: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for rule in rules:
        if ("TCP", 9100) in _ports([rule]) and rule != {
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "ports": [{"protocol": "TCP", "port": 9100}],
        }:
            yield "metrics are readable from other namespaces than monitoring"


def monitoring_problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Yield one line for each problem of the ServiceMonitor, the PrometheusRule and the dashboards."""
    monitor, rule = find(manifests, "ServiceMonitor"), find(manifests, "PrometheusRule")
    for each in (monitor, rule):
        if each["apiVersion"] != "monitoring.coreos.com/v1":
            yield f"{each['kind']}: {each['apiVersion']} is not served by the operator"
    if unknown := monitor["spec"].keys() - {"jobLabel", "selector", "endpoints", "namespaceSelector"}:
        yield f"ServiceMonitor: unknown fields {sorted(unknown)}"
    yield from _scraped(monitor["spec"], manifests)
    if rule["spec"] != _rules():
        yield "PrometheusRule: the rules are not those of alerts/platform.yml; run python -m alerts.generate"
    for each in (each for group in rule["spec"]["groups"] for each in group["rules"]):
        if each.keys() - RULE_FIELDS or len({"record", "alert"} & each.keys()) != 1 or "expr" not in each:
            yield f"PrometheusRule: {each.get('alert') or each.get('record')} is not a rule"
    shown = {
        file: text
        for each in manifests
        if each["kind"] == "ConfigMap" and each["metadata"]["labels"].get("grafana_dashboard") == "1"
        for file, text in each["data"].items()
    }
    if shown != {file.name: file.read_text() for file in (ROOT / "dashboards").glob("*.json")}:
        yield "the dashboards are not those of dashboards/"


@cache
def _rules() -> Any:
    return yaml.safe_load((ROOT / "alerts/platform.yml").read_text())


def _scraped(monitor: Manifest, manifests: Sequence[Manifest]) -> Iterator[str]:
    found = [
        each for each in manifests
        if each["kind"] == "Service" and selects(monitor["selector"]["matchLabels"], each["metadata"]["labels"])
    ]  # fmt: skip
    ports = {port["name"] for service in found for port in service["spec"]["ports"]}
    if len(found) != 1 or {each["port"] for each in monitor["endpoints"]} != ports:
        yield "ServiceMonitor: it selects no Service with that port, or several"
    jobs = {service["metadata"]["labels"].get(monitor["jobLabel"]) for service in found}
    if jobs != {"flowbiz-platform"}:
        yield f"ServiceMonitor: the job would be {jobs}, and the rules expect flowbiz-platform"
