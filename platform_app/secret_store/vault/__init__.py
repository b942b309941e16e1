"""Secrets from HashiCorp Vault or OpenBao."""
