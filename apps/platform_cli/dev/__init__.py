"""`flowbiz-platform dev`."""
