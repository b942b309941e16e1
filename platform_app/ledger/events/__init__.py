"""Ledger events: access decisions, usage records and intents, and how each is written as a line."""
