"""What all commands share: how they read from people and how they write for them.

actor.py      who changes something, for the audit
colour.py     colours, only on a terminal
durations.py  durations and moments as people write and read them
entry.py      the end of every command: messages and exit codes, never a traceback
output.py     stdout and stderr, and what happens when output is lost
progress.py   the progress of a long export
table.py      tables with a header

Output for programs and for `KEY=$(…)` goes to stdout; everything that only a person needs goes to stderr.
"""
