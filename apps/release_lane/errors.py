"""What stops an operation."""


class LaneError(Exception):
    """A step failed. `remedy` says what to do; without it, the step's own advice is shown."""

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    @classmethod
    def of(cls, error: Exception) -> "LaneError":
        """Return the failure of a step that another exception was."""
        if isinstance(error, LaneError):
            return error
        if isinstance(error, OSError) and error.strerror:
            return cls(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)
        return cls(str(error) or type(error).__name__)


class UsageError(Exception):
    """The options, lane.toml or the state of the host do not allow this operation. Nothing was changed."""


class LockedError(Exception):
    """Another operation runs on this host."""
