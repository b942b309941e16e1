"""Releases on a plain host.

operations.py  the steps: build, check, migrate, start, smoke, switch, record, retire
slots.py       which port of each slot serves, and which release
builder.py     a release's directory: virtual environment, wheel, locked dependencies
addresses.py   where the instances listen
front.py       the traffic: nginx's list of instances, or a command
probes.py      readiness and running requests of an instance
runners/       starts and stops an instance: systemd, or plain processes
"""
