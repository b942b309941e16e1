"""An answer as it is kept for whoever sends its key again."""

from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """What a client got: a whole body, or all events of a stream as one."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """Lower-case names. Only what belongs to the answer, and nothing of the request that it came with."""
    body: bytes
    model: str | None = None
    """The public name of the model that it came from; who may not use that any more does not get the response again."""

    def encode(self) -> bytes:
        """A line of JSON, then the body as it is. Never empty."""
        fields = {"status": self.status, "headers": self.headers, "model": self.model}
        head = orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
        return head + self.body

    @classmethod
    def decode(cls, data: bytes) -> "StoredResponse":
        """The reverse."""
        head, _, body = data.partition(b"\n")
        fields = orjson.loads(head)
        headers = tuple((name, value) for name, value in fields["headers"])
        return cls(fields["status"], headers, body, fields["model"])
