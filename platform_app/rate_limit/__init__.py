"""How much a caller may do: rules, the limiter and its response headers."""
