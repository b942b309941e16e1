"""Which model of the catalog a requested name stands for.

A name is the model's own, else an alias, else matched by a wildcard: a model whose name has one `*`, which stands for
one or more characters. Of several wildcards the one with the most other characters counts.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

WILDCARD = "*"
_CONCRETE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")
"""Names that a wildcard may match: those that a model may have (config/fields.py)."""


class ModelNames(Collection[str]):
    """The names under which the models of a catalog can be requested."""

    def __init__(self, models: Mapping[str, Sequence[str]]) -> None:
        """`models`: each model's name with its aliases."""
        self._models = tuple(models)
        self._exact = {alias: name for name, aliases in models.items() for alias in aliases}
        self._exact |= {name: name for name in models}
        wildcards = [name for name in models if WILDCARD in name]
        self._wildcards = sorted(wildcards, key=lambda name: (-len(name), -name.index(WILDCARD), name))

    @property
    def exact(self) -> Collection[str]:
        """All names, wildcards and aliases."""
        return self._exact.keys()

    def model_of(self, name: str) -> str | None:
        """Return the model's name in the catalog; None if no model has this name."""
        found = self._exact.get(name)
        if found is not None:
            return found
        return next((each for each in self._wildcards if matched_part(each, name) is not None), None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.model_of(name) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def matched_part(wildcard: str, name: str) -> str | None:
    """Return what the `*` of a wildcard stands for in a requested name; None if the wildcard does not match."""
    prefix, _, suffix = wildcard.partition(WILDCARD)
    if len(name) <= len(prefix) + len(suffix) or not name.startswith(prefix) or not name.endswith(suffix):
        return None
    if _CONCRETE.fullmatch(name) is None:
        return None
    return name[len(prefix) : len(name) - len(suffix)]
