"""`flowbiz-platform dev`: the whole platform on one machine, without installing a server.

command.py   run_dev: start in order, watch, stop in reverse order
address.py      ports and URLs, checked before anything starts
environment.py  the gateway's environment: what each start writes and the next one reads
files.py        dev.env and platform.yaml        paths.py    every path below the data directory
keys.py         the administrator's key and the chat key
console.py      what is printed                  signals.py  Ctrl-C, and a second Ctrl-C
"""
