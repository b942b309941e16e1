"""`make soak`: all hostile inputs in turn against one gateway, beside a legitimate client.

`stack.py` starts PostgreSQL, Valkey, the simulator and a gateway; `hostile.py` is the attacker, a separate process;
`watch.py` measures the worker's memory, the probe and the legitimate client; `soak.py` runs the turns and judges.
"""
