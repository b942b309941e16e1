"""The rules as a PrometheusRule, which the Prometheus operator loads: the same groups as in `platform.yml`."""

import yaml

from alerts.rules import Options, dump, rules_text

LABELS = {"app.kubernetes.io/component": "monitoring"}


def prometheus_rule_text(options: Options) -> str:
    """Return the manifest."""
    return dump(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PrometheusRule",
            "metadata": {"name": "flowbiz-platform", "labels": LABELS},
            "spec": yaml.safe_load(rules_text(options)),
        }
    )
