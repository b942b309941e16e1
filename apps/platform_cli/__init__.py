"""The command `flowbiz-platform`.

`main.py` declares every command and its options; the work is in a module or folder named after the command::

    dev/      everything on one machine        serve/    production: a supervisor and its workers
    checks/   can this configuration run?      smoke/    does this running gateway work?
    usage/    usage, and a bill compared       audit.py  keys.py  limits.py  migrate.py  maintenance.py
    embedded/ PostgreSQL and Valkey as child processes, for dev and for tests
    database_commands.py   what the commands share that only read the database
"""
