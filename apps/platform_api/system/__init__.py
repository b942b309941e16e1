"""Probes and metadata: /livez, /readyz, /healthz, /v1/meta."""
