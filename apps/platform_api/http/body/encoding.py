"""Name what a body is that no JSON parser can read: compressed, in another encoding, or with a byte that is not text.

Only refused requests pay for this, except for one look at Content-Encoding.
"""

import re

from platform_app.errors import InvalidRequest, PlatformError, UnsupportedMediaType

_PLAIN = frozenset({b"", b"identity", b"utf-8", b"utf8"})
"""Content-Encodings that leave the body as it is. UTF-8 is not one, but clients that send it mean no compression."""
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
"""First bytes of compressed data. No JSON text begins like this."""
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""Byte order marks, the longer ones first."""
_MARK = b"\xef\xbb\xbf"
_CODING = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,30}")
_SEND_PLAIN = "This gateway takes JSON as UTF-8 text without compression"


def refuse_encoded(content_encoding: bytes) -> None:
    """Raise UnsupportedMediaType where the value of a Content-Encoding header is anything but no encoding."""
    codings = [part.strip().lower() for part in content_encoding.split(b",")]
    encoded = [part for part in codings if part not in _PLAIN]
    if encoded:
        raise _compressed(encoded[0].decode("latin-1"), "the header Content-Encoding says so")


def of_another_form(raw: bytes) -> UnsupportedMediaType | None:
    """The error for a body that begins as compressed data does, or as text of another encoding; None for any other."""
    for start, name in _COMPRESSED.items():
        if raw.startswith(start):
            return _compressed(name, "its first bytes say so, although no Content-Encoding was sent")
    for start, name in _ENCODINGS.items():
        if raw.startswith(start):
            return _other_encoding(name)
    wide = _wide_encoding(raw)
    return None if wide is None else _other_encoding(wide)


def unreadable(raw: bytes) -> PlatformError | None:
    """The error for a body that is not UTF-8 text, or not text at all; None for text that may be wrong otherwise."""
    if (other := of_another_form(raw)) is not None:
        return other
    if raw.startswith(_MARK):
        return _no_text("it begins with a byte order mark (EF BB BF), which JSON does not have; leave it out")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        if _is_zlib(raw):
            return _compressed("deflate", "its first bytes say so, although no Content-Encoding was sent")
        what = f"byte 0x{raw[error.start]:02x} at position {error.start} is not UTF-8 text"
        return _no_text(f"{what}; write the text as UTF-8, not as Latin-1 or Windows-1252")
    return None


def _compressed(name: str, why: str) -> UnsupportedMediaType:
    shown = name if _CODING.fullmatch(name) else "unknown"
    error = UnsupportedMediaType(
        f"The body is compressed ({shown}): {why}. {_SEND_PLAIN}: send it without Content-Encoding."
    )
    error.compressed = True
    return error


def _other_encoding(name: str) -> UnsupportedMediaType:
    return UnsupportedMediaType(f"The body is {name} text. {_SEND_PLAIN}: encode it as UTF-8.")


def _no_text(what: str) -> InvalidRequest:
    return InvalidRequest(f"The body is not valid JSON: {what}.", details=[what])


def _wide_encoding(raw: bytes) -> str | None:
    """UTF-16 or UTF-32 without a mark: JSON begins with two ASCII characters, so NULs stand between them (RFC 4627)."""
    zeros = bytes(byte != 0 for byte in raw[:4])
    if zeros in (b"\x00\x00\x00\x01", b"\x01\x00\x00\x00"):
        return "UTF-32"
    return "UTF-16" if zeros in (b"\x00\x01\x00\x01", b"\x01\x00\x01\x00") else None


def _is_zlib(raw: bytes) -> bool:
    """RFC 1950: the two bytes of the header are a multiple of 31, and its low bits name deflate."""
    return len(raw) > 2 and raw[0] & 0x0F == 8 and (raw[0] << 8 | raw[1]) % 31 == 0
