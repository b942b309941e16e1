"""The command `flowbiz-platform`.

`main.py` declares every command and its options; the work is in a module or folder named after the command::

    dev/      everything on one machine        serve/    production: a supervisor and its workers
    checks/   can this configuration run?      smoke/    does this running gateway work?
    usage/    usage, and a bill compared       reading/  audit, limits and request
    keys/     API keys                         terminal/ reading from people, writing for them
    database/ migrate, maintenance, and what the commands share that read the database
    embedded/ PostgreSQL and Valkey as child processes, for dev and for tests
"""
