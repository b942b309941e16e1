"""Sign and read the ids of stored responses.

An id is `resp_` + base64url(MAC + JSON). The key of the MAC is the pepper of API keys, so all instances agree on it.
Every live pepper verifies, and the current one signs, so a rotation keeps ids valid as long as it keeps keys valid.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

import orjson

from platform_app.auth.pepper import Peppers
from platform_app.errors import NotFound

_PREFIX = "resp_"
_PURPOSE = "stored-response:"
"""Separates these MACs from those of API keys, which have the same pepper."""
_MAC_BYTES = 16
_OWNER_BYTES = 12
MAX_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class StoredId:
    """The owner and the location of a stored response."""

    owner: str
    """A digest of the owner's name."""
    model: str
    """The public model name."""
    provider: str
    upstream_model: str
    response_id: str
    """The provider's id."""
    tokens: int = 0
    """The tokens of the conversation up to this response, counted or estimated: a request that continues it has them as
    its input, in addition to its own."""


def owner_digest(owner: str) -> str:
    """Return the digest that an id has of its owner."""
    return hashlib.sha256(owner.encode()).hexdigest()[: 2 * _OWNER_BYTES]


def sign_id(stored: StoredId, peppers: Peppers) -> str:
    """Return the id that the client gets."""
    fields: list[str | int] = [
        stored.owner, stored.model, stored.provider, stored.upstream_model, stored.response_id
    ]  # fmt: skip
    if stored.tokens:
        fields.append(stored.tokens)
    content = orjson.dumps(fields)
    signed = _mac(content, peppers, peppers.current) + content
    return _PREFIX + base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def read_id(given: str, owner: str, peppers: Peppers, param: str | None = None) -> StoredId:
    """Return the location of the response with this id.

    Raises:
        NotFound: the gateway did not sign the id, or it did for another owner. The message does not say which.
    """
    stored = _verified(given, peppers)
    if stored is None or not hmac.compare_digest(stored.owner, owner_digest(owner)):
        raise unknown_response(param)
    return stored


def unknown_response(param: str | None = None) -> NotFound:
    """Return the error for a response that does not exist, or that the caller may not see."""
    return NotFound(
        'There is no stored response with this id. A response is stored if its request had "store": true.', param=param
    )


def _verified(given: str, peppers: Peppers) -> StoredId | None:
    if not given.startswith(_PREFIX) or len(given) > MAX_LENGTH:
        return None
    text = given.removeprefix(_PREFIX)
    try:
        signed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    mac, content = signed[:_MAC_BYTES], signed[_MAC_BYTES:]
    # Every version is compared, so the duration does not show which one matches.
    matches = [hmac.compare_digest(mac, _mac(content, peppers, version)) for version in peppers.by_version]
    return StoredId(*orjson.loads(content)) if any(matches) else None


def _mac(content: bytes, peppers: Peppers, version: int) -> bytes:
    digest = peppers.digest(f"{_PURPOSE}{hashlib.sha256(content).hexdigest()}", version)
    assert digest is not None  # noqa: S101 - for mypy: the version is a live one
    return digest[:_MAC_BYTES]
