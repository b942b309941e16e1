"""Providers: adapters for each wire format, the simulator's faults and requests."""
