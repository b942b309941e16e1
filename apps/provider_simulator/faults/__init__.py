"""Faults: what the simulator does wrong on purpose."""
