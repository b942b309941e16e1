"""Shipping: move events from the spool to PostgreSQL."""
