"""Anthropic's Messages API: any Anthropic client works with its base URL and key changed."""
