"""The pepper: the key of the HMAC under which API keys are stored. Several versions can be live at once.

The secret's text is `<version>:<value>`, or several of these separated by commas, for example `2:9f…,1:41…`. The first
version hashes new keys; all versions verify. So a rotation is safe while instances restart one by one:

1. Add the new version after the old one, on every instance.
2. Move the new version to the front.
3. Remove the old version once no key uses it (`flowbiz-platform keys peppers`).

A value without a version has version 1. Each value has at least 32 characters, for example from `openssl rand -hex 32`.

Keys contain 196 random bits, which cannot be guessed. So a fast keyed hash is enough, and a copy of the table is
useless without the pepper. Slow hashes such as bcrypt are for passwords.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from platform_app.errors import SecretError

MINIMUM_LENGTH = 32
MAXIMUM_VERSION = 32_767
"""Largest value of the column `pepper_version`."""


@dataclass(frozen=True, slots=True)
class Peppers:
    """All live peppers by version, and the version that hashes new keys."""

    by_version: Mapping[int, bytes] = field(repr=False)
    current: int

    def digest(self, token: str, version: int | None = None) -> bytes | None:
        """Return the HMAC-SHA-256 of the whole token, 32 bytes; None if that version is not live."""
        pepper = self.by_version.get(self.current if version is None else version)
        return None if pepper is None else hmac.digest(pepper, token.encode("ascii"), "sha256")


def parse_peppers(secret_name: str, text: str) -> Peppers:
    """Parse the secret's text.

    Raises:
        SecretError: the text is invalid. The message names the secret, the entry and the problem, never a value.
    """
    peppers: dict[int, bytes] = {}
    for position, part in enumerate(text.split(","), start=1):
        version_text, colon, value = part.strip().rpartition(":")
        if colon and not version_text.isdecimal():
            raise SecretError(
                f"{secret_name}: entry {position} has no version number before the colon; expected for example 2:VALUE"
            )
        if len(version_text) > 5 or (version := int(version_text or 1)) > MAXIMUM_VERSION:
            raise SecretError(
                f"{secret_name}: entry {position} has a version above {MAXIMUM_VERSION}, or one of more than 5 digits"
            )
        if len(value) < MINIMUM_LENGTH:
            raise SecretError(
                f"{secret_name}: entry {position} has fewer than {MINIMUM_LENGTH} characters; "
                "make one with: openssl rand -hex 32"
            )
        if version in peppers:
            raise SecretError(
                f"{secret_name}: version {version} is used by two entries; give each entry its own version"
            )
        peppers[version] = value.encode()
    return Peppers(peppers, next(iter(peppers)))
