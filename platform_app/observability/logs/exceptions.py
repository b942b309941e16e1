"""An exception in a log line: its type and its locations, without the values of variables and without source lines."""

import sys
import traceback
from typing import Any

from platform_app.errors import ConfigurationError, PlatformError, SecretError

_OUR_OWN = (PlatformError, SecretError, ConfigurationError)
_MAX_MESSAGE = 300
_MAX_FRAMES = 20


def exception_fields(info: Any) -> dict[str, Any]:
    """Return the fields of `exc_info`: an exception, a tuple as of sys.exc_info(), or True for the current exception.

    The message is included only for our own exceptions: that of a KeyError, for example, is the key that was looked up.
    """
    if info is True:
        info = sys.exc_info()
    error = info[1] if isinstance(info, tuple) else info
    if not isinstance(error, BaseException):
        return {}
    fields: dict[str, Any] = {"error": type(error).__qualname__}
    if isinstance(error, _OUR_OWN):
        fields["error_message"] = str(error)[:_MAX_MESSAGE]
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    fields["error_at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return fields
