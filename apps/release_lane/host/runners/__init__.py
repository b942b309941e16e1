"""Start and stop the instance of a port.

interface.py   what the lane needs of a runner
systemd.py     one template unit, one instance of it for each port
process.py     plain processes with a file for each id: no root, no systemd
"""
