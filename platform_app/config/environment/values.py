"""What is the same for every setting: white space and quotes around the value, and choices in any case."""

from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr

_QUOTES = ("'", '"')


def normalised(model: type[BaseModel], field: str, value: object) -> object:
    """Return a setting's text without white space around it, and a choice in the case of the documents. A blank text is
    the default, as an empty variable is: as a path it would be the current directory.

    Raises:
        ValueError: the text is in quotes, which `docker run --env-file` keeps.
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    if value and not text and not model.model_fields[field].is_required():
        return model.model_fields[field].get_default()
    if len(text) > 1 and text[0] in _QUOTES and text[-1] == text[0]:
        raise ValueError("is in quotes, which are part of the value (docker's --env-file keeps them); remove them")
    return next((choice for choice in _choices(model, field) if choice.lower() == text.lower()), text)


@lru_cache(512)
def _choices(model: type[BaseModel], field: str) -> tuple[str, ...]:
    return tuple(_literals(model.model_fields[field].annotation))


def _literals(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [choice for choice in get_args(annotation) if isinstance(choice, str)]
    return [choice for member in get_args(annotation) for choice in _literals(member)]


def is_secret(model: type[BaseModel], field: str) -> bool:
    """Return whether the setting holds a secret itself."""
    annotation = model.model_fields[field].annotation
    return annotation is SecretStr or SecretStr in get_args(annotation)
