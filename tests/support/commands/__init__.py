"""Command lines and processes that tests start."""
