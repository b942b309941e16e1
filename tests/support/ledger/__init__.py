"""Databases, events and versions of the ledger for tests."""
