"""Metrics of all workers: each worker writes its own, and the parent process serves their sum."""
