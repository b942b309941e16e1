"""The API key as text: `fbp_<env>_<key_id>_<secret><checksum>`.

- `env`: live or test.
- `key_id`: 12 base62 characters; public.
- `secret`: 33 base62 characters, 196 random bits.
- `checksum`: 6 base62 characters, the CRC-32 of all characters before them. A typo or a truncated key is refused
  before any I/O, and secret scanners can confirm a leak offline.
"""

import re
import secrets
import string
import zlib
from dataclasses import field
from typing import Literal

from platform_app.value_types import request_dataclass

KeyEnvironment = Literal["live", "test"]

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
KEY_ID_LENGTH = 12
SECRET_LENGTH = 33
CHECKSUM_LENGTH = 6

_TOKEN = re.compile(
    rf"fbp_(live|test)_([0-9A-Za-z]{{{KEY_ID_LENGTH}}})_[0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}}",
    re.ASCII,
)
KEY_ID_PATTERN = rf"^[0-9A-Za-z]{{{KEY_ID_LENGTH}}}$"


@request_dataclass(frozen=True, slots=True)
class Token:
    """A well-formed API key; its repr shows only the public parts."""

    key_id: str
    environment: str
    text: str = field(repr=False)


def generate_token(environment: KeyEnvironment, key_id: str | None = None) -> Token:
    """Return a new key; with `key_id`, a new secret for that key."""
    key_id = key_id or _random(KEY_ID_LENGTH)
    body = f"fbp_{environment}_{key_id}_{_random(SECRET_LENGTH)}"
    return Token(key_id, environment, body + checksum(body))


def parse_token(text: str) -> Token | None:
    """Return the token in `text`, or None if its form or checksum is wrong. No I/O; linear in the length."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        return None
    if checksum(text[:-CHECKSUM_LENGTH]) != text[-CHECKSUM_LENGTH:]:
        return None
    return Token(match[2], match[1], text)


def checksum(body: str) -> str:
    """Return the CRC-32 (as in zlib) of the ASCII text, as 6 base62 digits, most significant first."""
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
