"""GET /v1/platform/usage."""
