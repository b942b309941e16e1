"""The parts of the log pipeline. `observability/logging.py` composes them; other code imports only that module.

structlog, the standard library's loggers, Python's warnings and exceptions that no code handled all take this way:

level.py           drops what is below the level, which can change while the process runs
flood_guard.py     counts repeats of one event instead of writing them
exceptions.py      an exception becomes its type and its locations, without values
standard_library.py   takes the lines of libraries
unhandled.py       takes the exceptions that no code handled, and warnings
json_line.py       renders the line for machines; console_line.py for a person at a terminal
escaping.py        no text in a field can start a line, move a cursor or reorder characters
known_secrets.py   masks the values of secrets that this process has read
secret_settings.py  the passwords and tokens of the settings, as known secrets
sink.py            writes finished lines without blocking the event loop
"""
