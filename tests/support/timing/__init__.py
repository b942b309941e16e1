"""Clocks: virtual time, iterations of an event loop, and durations that a slow machine does not lengthen."""
