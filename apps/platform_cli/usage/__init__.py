"""`flowbiz-platform usage`."""
