"""Recognise compressed bodies. The gateway asks for none, and reads none."""

_CODINGS = frozenset({"gzip", "x-gzip", "br", "deflate", "zstd", "compress", "x-compress", "dcb", "dcz"})
"""The registered codings. Other values, such as an empty one and `utf-8`, are mistakes of servers that send plain
text."""


def is_compressed(content_encoding: str) -> bool:
    """Return whether a Content-Encoding names a compression."""
    return any(coding.strip() in _CODINGS for coding in content_encoding.lower().split(","))
