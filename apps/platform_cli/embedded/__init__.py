"""PostgreSQL and Valkey as child processes, for `flowbiz-platform dev` and for tests; their programs come from wheels.

postgres.py, valkey.py   one server each, on server.py: start, wait, freeze, stop
prometheus.py            Prometheus, where it is installed: `dev --observe` and tests of dashboards and alerts
child.py                 a child process that never outlives its parent; processes.py reads and ends processes
account.py               PostgreSQL refuses to run as root: the user that it runs as
sockets.py, private_file.py, lock.py   paths of sockets, files that other users cannot replace, one dev per directory
errors.py                the errors, as a tree

This file imports nothing: the parent of `serve` uses child.py alone and stays small.
"""
