"""GET /v1/platform/audit and GET /v1/platform/requests/{id}."""
