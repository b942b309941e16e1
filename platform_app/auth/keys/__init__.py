"""API keys: store, lifecycle, rules, and announcements of changes."""
