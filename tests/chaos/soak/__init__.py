"""`make soak`: steady traffic at half capacity, and the slopes of what must not grow.

traffic.py    streams, JSON, errors, disconnects, rotated keys and reloads of the config file
samples.py    memory, descriptors, threads, series and spool of a gateway, and the slope of each
soak.py       the order of a run

tests/attacks/soak (`make hostile`) sends hostile input instead.
"""
