"""Real servers that tests start: Valkey, OpenBao, moto, proxies, TLS in front of PostgreSQL."""
