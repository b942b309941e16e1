"""HTTP to providers: client, responses, timeouts and event streams."""
