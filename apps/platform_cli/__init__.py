"""The command `flowbiz-platform`."""
