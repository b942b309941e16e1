"""GET /v1/platform/audit."""
