"""Frozen dataclasses for what is created for each request.

A frozen dataclass calls `object.__setattr__` for each field of each instance, which makes its creation four to six
times as expensive. A request creates about twenty of them: with real ones it would cost 3 % more.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataclasses import dataclass as request_dataclass
else:
    from dataclasses import dataclass

    def request_dataclass(*, frozen: bool, slots: bool):
        """Return the decorator of a dataclass that mypy treats as frozen. At run time nothing prevents a change."""
        return dataclass(slots=slots, unsafe_hash=frozen)


__all__ = ["request_dataclass"]
