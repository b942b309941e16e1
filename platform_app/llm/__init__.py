"""Providers: the catalog of models, the adapter interface, and one file per wire format."""
