"""Parse what a provider sends as JSON, and say what is wrong with it. All wire formats share this."""

from typing import Any

from platform_app.errors import PlatformError
from platform_app.llm import errors
from platform_app.llm.codecs import lenient_json


def parse_response(raw: bytes) -> Any:
    """Return the value of a whole response. Raises ProviderBadResponse if it is not JSON."""
    try:
        return lenient_json.loads(raw)
    except ValueError:
        raise errors.bad_response("the response is not valid JSON") from None


class OddEvents:
    """Reads the events of one stream that orjson cannot parse: texts of proxies, and JSON with small errors."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = b""
        """The last text that mentions an error. It explains a stream that ends early."""

    def read(self, text: bytes) -> Any:
        """Return the value of an event without surrounding white space. A text that does not begin like an object or a
        list has no content: return None. Raises ProviderBadResponse for any other text that is not JSON, since content
        may be lost."""
        if not text.removeprefix(lenient_json.BOM).startswith((b"{", b"[")):
            self.skip(text)
            return None
        try:
            return lenient_json.loads(text)
        except ValueError:
            raise errors.bad_response("an event of the stream is not valid JSON") from None

    def skip(self, text: bytes) -> None:
        """Keep a text without content if it mentions an error."""
        if b"error" in text.lower():
            self.text = text

    def incomplete(self, why: str = "the stream ended before the response was complete") -> PlatformError:
        """Return the error of a stream that ended before its last event."""
        return errors.bad_response(why, self.text)
