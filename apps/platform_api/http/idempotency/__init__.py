"""Idempotency-Key at a route: run the work once per key and replay the stored response (docs/adr/0011, 0030)."""
