"""Idempotency-Key: a request that is sent again gets the first one's answer, and its work is done once."""
