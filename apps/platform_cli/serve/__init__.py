"""`flowbiz-platform serve`: the parent process, its workers and the metrics port."""
