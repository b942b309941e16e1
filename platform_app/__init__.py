"""The gateway itself: auth, limits, secrets, providers and records. It imports no web framework."""
