"""The pepper: the key of the HMAC under which API keys are stored. Several versions can be live at once.

The secret's text is `<version>:<value>`, several separated by commas, for example `2:9f…,1:41…`. The first one is used
for new keys, all of them for checking. So a rotation is safe while instances restart one by one: first add the new
version behind the old one, everywhere; then put it in front; and take the old one away once nothing needs it
(`flowbiz-platform keys peppers`). A bare value counts as version 1. Each value has at least 32 characters;
`openssl rand -hex 32` makes one.

Keys carry 196 random bits, so a fast keyed hash is the right one: there is nothing to guess, and a copy of
the table is useless without the pepper. bcrypt and its like are for passwords.
"""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from platform_app.errors import SecretError

MINIMUM_LENGTH = 32
MAXIMUM_VERSION = 32_767
"""What the column `pepper_version` holds."""


@dataclass(frozen=True, slots=True)
class Peppers:
    """All live peppers, by version."""

    by_version: Mapping[int, bytes] = field(repr=False)
    current: int

    def digest(self, token: str, version: int | None = None) -> bytes | None:
        """HMAC-SHA-256 of the whole token, 32 bytes; None where that version is not live."""
        pepper = self.by_version.get(self.current if version is None else version)
        return None if pepper is None else hmac.digest(pepper, token.encode("ascii"), "sha256")


def parse_peppers(secret_name: str, text: str) -> Peppers:
    """Read the secret's text.

    Raises:
        SecretError: naming the secret and what is wrong with it, never a value.
    """
    peppers: dict[int, bytes] = {}
    for position, part in enumerate(text.split(","), start=1):
        version_text, colon, value = part.strip().rpartition(":")
        if colon and not version_text.isdecimal():
            raise SecretError(f"{secret_name}: entry {position} has no version number before the colon")
        if len(version_text) > 5 or (version := int(version_text or 1)) > MAXIMUM_VERSION:
            raise SecretError(f"{secret_name}: entry {position} has a version above {MAXIMUM_VERSION}")
        if len(value) < MINIMUM_LENGTH:
            raise SecretError(
                f"{secret_name}: entry {position} has fewer than {MINIMUM_LENGTH} characters; "
                "make one with: openssl rand -hex 32"
            )
        if version in peppers:
            raise SecretError(f"{secret_name}: version {version} stands twice")
        peppers[version] = value.encode()
    return Peppers(peppers, next(iter(peppers)))
