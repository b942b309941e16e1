"""The Grafana dashboards: `source/` describes them, `*.json` are generated, `provisioning/` loads them into Grafana."""
