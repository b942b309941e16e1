"""Anthropic's Messages API: Anthropic's clients need only another base URL and key."""
