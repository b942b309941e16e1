"""The worker's event loop: how late it runs, timeouts that a blocked loop does not expire, turns for large work,
and background tasks."""
