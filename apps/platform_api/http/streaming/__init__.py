"""Streamed responses: byte streams, server-sent events, and heads that are sent before the first event."""
