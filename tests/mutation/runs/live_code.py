"""Exchange the code of a module's functions while they are in use, so that a mutant needs no new import."""

import gc
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType


class LiveModule:
    """The functions of one imported file."""

    def __init__(self, file: Path) -> None:
        self._file = str(file)
        self._original = file.read_text()
        self._functions: dict[tuple[str, int], list[FunctionType]] = {}
        gc.unfreeze()  # frozen objects are not listed
        for thing in gc.get_objects():
            if type(thing) is FunctionType and thing.__code__.co_filename == self._file:
                key = thing.__code__.co_qualname, thing.__code__.co_firstlineno
                self._functions.setdefault(key, []).append(thing)
        if not self._functions:
            raise AssertionError(f"the tests import no function of {file}")

    def exchange(self, text: str) -> None:
        """Give every function the code that it has in this text."""
        before = list(_codes(compile(self._original, self._file, "exec", dont_inherit=True)))
        after = list(_codes(compile(text, self._file, "exec", dont_inherit=True)))
        if [code.co_qualname for code in before] != [code.co_qualname for code in after]:
            raise CannotExchange
        exchanged = False
        for old, new in zip(before, after, strict=True):
            for function in self._functions.get((old.co_qualname, old.co_firstlineno), []):
                try:
                    function.__code__ = new
                except ValueError as error:  # another number of variables from outside
                    raise CannotExchange from error
                exchanged = True
        if not exchanged:
            raise CannotExchange


class CannotExchange(Exception):
    """The mutant needs a new import."""


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of everything inside, in the order of the text."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _codes(constant)
