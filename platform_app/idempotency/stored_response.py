"""A response in the form in which it is stored under an Idempotency-Key."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """The response that a client got; a stream's body is the text of all its events."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Lower-case names. Only headers of the response itself, not of the request that it belonged to (such as its
    id)."""
    body: bytes
    model: str | None = None
    """Public name of the model. A caller that may no longer use the model does not get the response again."""

    def encode(self) -> bytes:
        """Return a line of JSON followed by the unchanged body; never empty."""
        fields = {"status": self.status, "headers": self.headers, "model": self.model}
        head = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        return head + self.body

    @classmethod
    def decode(cls, data: bytes) -> "StoredResponse":
        """Return the response that `encode` returned as bytes."""
        head, _, body = data.partition(b"\n")
        fields = orjson.loads(head)
        headers = tuple((name, value) for name, value in fields["headers"])
        return cls(fields["status"], headers, body, fields["model"])
