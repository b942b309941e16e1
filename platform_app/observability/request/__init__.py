"""What is counted about one request at its end: its outcome, its metrics, and each call to a provider."""
