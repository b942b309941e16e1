"""Connections to other services: URLs, TLS files and proxies."""
