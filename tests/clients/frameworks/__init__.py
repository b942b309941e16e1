"""Agent frameworks against the gateway: only their base URL and key change."""
