"""Implementations of the limiter: Redis, Redis Cluster, local, and failover between them."""
