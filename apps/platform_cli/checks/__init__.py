"""`flowbiz-platform check`."""
