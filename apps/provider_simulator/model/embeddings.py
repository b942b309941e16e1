"""Embeddings: vectors of unit length that depend on the text only, in both encodings."""

import base64
import hashlib
import math
from array import array
from collections.abc import Mapping
from functools import lru_cache

import orjson

from apps.provider_simulator.model.simulated_model import InvalidRequestError, count_tokens

DEFAULT_DIMENSIONS = 1536
MAX_DIMENSIONS = 4096


class EmbeddingAnswer:
    """Return the response to one embeddings request.

    Raises:
        InvalidRequestError: the request lacks an input, or a field of it is malformed.
    """

    before_text = 0
    after_text = 0

    def __init__(self, body: Mapping[str, object]) -> None:
        self._model = str(body["model"])
        self._inputs = _inputs(body.get("input"))
        dimensions = body.get("dimensions")
        if dimensions is None:
            dimensions = DEFAULT_DIMENSIONS
        if not isinstance(dimensions, int) or not 1 <= dimensions <= MAX_DIMENSIONS:
            raise InvalidRequestError(f"'dimensions' must be 1 to {MAX_DIMENSIONS}.", "dimensions")
        encoding = body.get("encoding_format") or "float"
        if encoding not in ("float", "base64"):
            raise InvalidRequestError("'encoding_format' must be 'float' or 'base64'.", "encoding_format")
        self._dimensions = dimensions
        self._encoding = str(encoding)

    def json(self) -> bytes:
        """The response body."""
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": orjson.Fragment(_encoded_vector(text, self._dimensions, self._encoding)),
            }
            for index, (text, _) in enumerate(self._inputs)
        ]
        tokens = sum(count for _, count in self._inputs)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return orjson.dumps({"object": "list", "data": data, "model": self._model, "usage": usage})

    def events(self) -> list[bytes]:
        """Raise an error, because embeddings do not stream."""
        return []


def _inputs(given: object) -> list[tuple[str, int]]:
    """Return each input as a text to hash and its tokens: a string, strings, token ids or lists of token ids."""
    if isinstance(given, str):
        return [(given, count_tokens(given))]
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return [(item, count_tokens(item)) for item in given]
        if all(isinstance(item, int) for item in given):
            return [(repr(given), len(given))]
        if all(isinstance(item, list) for item in given):
            return [(repr(item), len(item)) for item in given]
    raise InvalidRequestError("'input' must be a string, or a list of strings or token ids.", "input")


@lru_cache(maxsize=256)
def _encoded_vector(text: str, dimensions: int, encoding: str) -> bytes:
    """Return the vector as JSON. Both encodings use single precision, so that both decode to the same numbers."""
    digest = hashlib.shake_256(text.encode("utf-8", "replace")).digest(2 * dimensions)
    # Odd numbers, so that no vector is all zeros.
    raw = [2 * value + 1 for value in array("h", digest)]
    length = math.sqrt(sum(value * value for value in raw))
    vector = array("f", (value / length for value in raw))
    if encoding == "base64":
        return orjson.dumps(base64.b64encode(vector.tobytes()).decode())
    return orjson.dumps(vector.tolist())
