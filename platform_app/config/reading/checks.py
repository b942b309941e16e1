"""Checks that compare fields. They also run where other fields are invalid, so that all problems are found at once.

pydantic runs a model's validators only if every field of the model and of all models in it is valid. Here a model with
invalid fields is built without them, and a check that needs one of them is skipped.
"""

import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, ClassVar, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from platform_app.config.reading.explain import INCONSISTENT, Problem
from platform_app.config.reading.values import Path, path_text

Check = Callable[[], Iterable[Problem]]
"""Yields problems; their paths start at the model that has the check."""


class _Invalid(Exception):
    """The value has no valid part."""


class ConfigModel(BaseModel):
    """Base of everything in the config file: unknown fields are problems, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    FORMER_NAMES: ClassVar[Mapping[str, str]] = {}
    """Fields by their former names, which are still read."""

    def checks(self) -> Iterable[Check]:
        """Return the checks that compare fields of this model. Each is skipped if a field that it reads is invalid."""
        return ()

    @property
    def is_complete(self) -> bool:
        """Whether every field is valid; always true outside of `find_inconsistencies`."""
        return type(self).model_fields.keys() <= self.__dict__.keys()

    @model_validator(mode="before")
    @classmethod
    def _take_former_names(cls, value: Any) -> Any:
        names = cls.FORMER_NAMES
        if not isinstance(value, Mapping) or not names.keys() & value.keys():
            return value
        for old in names.keys() & value.keys():
            if names[old] in value:
                raise ValueError(f"'{old}' is the former name of '{names[old]}'; state only the latter")
        return {names.get(key, key): item for key, item in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = [problem for check in self.checks() for problem in check()]
        if found:
            text = "; ".join(f"{path_text(path)}: {sentence}" if path else sentence for path, sentence in found)
            raise PydanticCustomError(INCONSISTENT, "{problems}", {"problems": text})
        return self


def find_inconsistencies(model: type[ConfigModel], data: Any, refused: Iterable[Path]) -> list[Problem]:
    """Return the problems that the checks of the model, and of all models in it, find among the valid fields.
    `refused` are paths whose values count as invalid."""
    parts = _Parts(frozenset(refused))
    try:
        parts.build(model, data, ())
    except _Invalid:
        return []
    return parts.problems


class _Parts:
    """Builds models from their valid parts, and runs their checks."""

    def __init__(self, refused: frozenset[Path]) -> None:
        self._refused = refused
        self._lacking: set[str] = set()
        self.problems: list[Problem] = []

    def build(self, annotation: Any, value: Any, path: Path) -> Any:
        """Return the valid part of a value; raise _Invalid if there is none."""
        if path in self._refused:
            raise _Invalid
        if isinstance(annotation, TypeAdapter):
            return _validated(annotation, value)
        kind, arguments = get_origin(annotation), get_args(annotation)
        if kind is Annotated:
            return self.build(arguments[0], value, path)
        if isinstance(value, Mapping):
            model = _model_of(annotation)
            if model is not None:
                return self._model(model, value, path)
            if kind is dict and _model_of(arguments[1]) is not None:
                return {key: self._item(arguments[1], item, (*path, key)) for key, item in value.items()}
        if kind is tuple and isinstance(value, list) and _model_of(arguments[0]) is not None:
            return tuple(self._item(arguments[0], item, (*path, index)) for index, item in enumerate(value))
        return _validated(TypeAdapter(annotation), value)

    def _item(self, annotation: Any, value: Any, path: Path) -> Any:
        """Return an item of a list or mapping; one without fields if it is invalid, so that the others keep their
        places."""
        try:
            return self.build(annotation, value, path)
        except _Invalid:
            return self._model(_model_of(annotation) or ConfigModel, {}, path, run_checks=False)

    def _model(self, model: type[ConfigModel], value: Mapping[str, Any], path: Path, run_checks: bool = True) -> Any:
        named = {model.FORMER_NAMES.get(key, key): item for key, item in value.items()}
        valid: dict[str, Any] = {}
        lacking: set[str] = set()
        for name, field in model.model_fields.items():
            if name in named:
                try:
                    valid[name] = self._field(field, named[name], (*path, name))
                except _Invalid:
                    lacking.add(name)
            elif field.is_required() or not run_checks:
                lacking.add(name)
        made = model.model_construct(**valid)
        for name in lacking:
            made.__dict__.pop(name, None)
        self._lacking |= lacking
        if run_checks:
            self._run(made, path)
        return made

    def _field(self, field: FieldInfo, value: Any, path: Path) -> Any:
        """Return the valid part of a field. The constraints of a field without models in it apply too."""
        annotation: Any = field.annotation
        if not field.metadata or _holds_models(annotation):
            return self.build(annotation, value, path)
        return self.build(TypeAdapter(Annotated[(annotation, *field.metadata)]), value, path)

    def _run(self, made: ConfigModel, path: Path) -> None:
        try:
            checks = list(made.checks())
        except AttributeError as error:
            self._expect_lacking(error)
            return
        for check in checks:
            try:
                found = list(check())
            except AttributeError as error:
                self._expect_lacking(error)
            else:
                self.problems += [((*path, *place), sentence) for place, sentence in found]

    def _expect_lacking(self, error: AttributeError) -> None:
        if error.name not in self._lacking:
            raise error


def _validated(adapter: TypeAdapter[Any], value: Any) -> Any:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        raise _Invalid from None


def _model_of(annotation: Any) -> type[ConfigModel] | None:
    """Return the model among the members of an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return next((model for member in get_args(annotation) if (model := _model_of(member)) is not None), None)
    return None


def _holds_models(annotation: Any) -> bool:
    return _model_of(annotation) is not None or any(_holds_models(member) for member in get_args(annotation))
