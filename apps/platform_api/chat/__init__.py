"""The platform's own chat API: POST /v1/platform/chat."""
