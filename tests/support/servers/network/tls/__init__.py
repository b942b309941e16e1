"""Certificates, and servers that require TLS."""
