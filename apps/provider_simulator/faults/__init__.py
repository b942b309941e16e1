"""Faults: deliberate errors of the simulator.

catalog.py    every fault with its parameter, and how a request selects one
faults.py     how each misbehaves on the connection
oddities.py   unusual error bodies and response bytes of real servers
odd_usage.py  implausible token counts
switch.py     faults that are switched on and off while the simulator runs
"""
