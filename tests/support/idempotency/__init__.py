"""A client that sends requests with an Idempotency-Key."""
