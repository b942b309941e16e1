"""Clocks: virtual time, and durations that a slow machine does not lengthen."""
