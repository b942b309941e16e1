"""GET /v1/platform/limits."""
