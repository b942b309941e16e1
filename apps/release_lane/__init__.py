"""Releases and rollbacks: `deploy/release SHA` and `deploy/rollback`.

An operation is a list of steps. Each step can be repeated, so an operation that was killed is resumed by the same
command. The lane imports only Python's standard library: it runs before the first release is installed::

    command.py     options -> settings -> lock -> operation -> exit code
    settings.py    lane.toml: where releases, instances and keys are
    environment_file.py  NAME=VALUE lines, as systemd reads them
    output.py      what the lane prints
    steps.py       what a step is, how steps run, what a failed one reports
    journal.py     the lock, the running operation, releases.log
    errors.py      what stops an operation
    commands.py    runs other programs; stand-ins replace it in tests
    host/          the operations on a plain host, with systemd or without
    kubernetes/    the same operation with kubectl

On a host each slot has two ports. A release starts on the idle port, is smoked there, and then gets the slot's traffic;
the old instance stays until its last request has ended. A rollback does not wait for requests either.
"""
