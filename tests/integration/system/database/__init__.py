"""PostgreSQL as the gateway meets it: why it fails, failover, promotion of a standby."""
