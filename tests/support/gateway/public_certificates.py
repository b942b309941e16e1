"""The certificates of public authorities, loaded once in a process of tests.

httpx loads them for each client, also for plain HTTP, which takes longer than most requests of a test.
"""

import functools
import ssl
from pathlib import Path
from typing import Any

_PUBLIC = ("certifi", "cacert.pem")
_create = ssl.create_default_context
_shared = functools.cache(_create)


def share_public_certificates() -> None:
    """Let all clients that trust the public authorities, and only those, share an SSL context."""
    ssl.create_default_context = _create_or_share


def _create_or_share(*arguments: Any, **options: Any) -> ssl.SSLContext:
    file = options.get("cafile")
    if not arguments and len(options) == 1 and file is not None and Path(file).parts[-2:] == _PUBLIC:
        return _shared(cafile=file)
    return _create(*arguments, **options)
