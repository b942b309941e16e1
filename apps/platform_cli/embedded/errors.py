"""The errors of the embedded servers.

EmbeddedError            a server cannot be run here; the message says what to do
├── ChildFailedError     a child process ended, or was not ready in time
└── LockedError          another process uses the data directory
"""


class EmbeddedError(Exception):
    """An embedded server cannot be run; the message is for the person at the terminal."""
