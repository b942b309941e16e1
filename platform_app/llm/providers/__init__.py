"""Providers: one folder per wire format, and what all formats share."""
