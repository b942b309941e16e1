"""Translate the fields of a chat request to another format: one table for each format.

Every field is translated, forwarded, left out because it has no effect on the response, or refused by name. A field
that would change the response is never dropped without an error.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from platform_app.llm.errors import unsupported

Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FieldTable:
    """What happens to each field. A field that is in no part of the table is refused."""

    translated: Mapping[str, Callable[[Any, Fields], None]]
    """By name: a function that writes the field's value into the request."""
    unchanged: frozenset[str]
    """Fields that both formats have, or only the other one: forwarded unchanged."""
    left_out: frozenset[str]
    """Fields without an effect on the response, or, like seed, without a guaranteed one."""
    only_at_default: Mapping[str, tuple[object, ...]]
    """Fields that are left out if they have a default value, else refused."""
    read_elsewhere: frozenset[str]
    """Fields that depend on each other, which the format's own code reads."""

    def translate(self, body: Mapping[str, Any], request: Fields) -> None:
        """Write the fields of a chat request into a request of the other format.

        Raises:
            ProviderRejectedRequest: a field cannot be translated; the error names it.
        """
        translated, read_elsewhere = self.translated, self.read_elsewhere
        for name, value in body.items():
            if value is None or name in read_elsewhere:
                continue
            if name in translated:
                translated[name](value, request)
            elif name in self.unchanged:
                request[name] = value
            elif name not in self.left_out and value not in self.only_at_default.get(name, ()):
                raise unsupported(name, "is not available on this model")


def output_limit(body: Mapping[str, Any]) -> Any:
    """Return the limit of output tokens. The newer of its two names has precedence, whatever their order."""
    newer = body.get("max_completion_tokens")
    return newer if newer is not None else body.get("max_tokens")
