"""The scenarios of a public failover benchmark, and client disconnects (tests/support/providers/failover)."""
