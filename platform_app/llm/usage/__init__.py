"""Token counts and cost of one call."""
