"""An invalid setting as a sentence: its name, what was expected, and the value unless it may be a secret."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from platform_app.config.environment.values import is_secret
from platform_app.config.environment.variables import ENV_PREFIX
from platform_app.config.reading.expectations import Schema, expected, schema_at
from platform_app.config.reading.explain import own_message
from platform_app.config.reading.values import shown

_NAMES_OF_SECRETS = "_secret_name"


def setting_problem(model: type[BaseModel], field: str, item: Mapping[str, Any]) -> str:
    """Return the sentence for one of pydantic's errors."""
    name = ENV_PREFIX + field.upper()
    if item["type"] == "missing":
        return f"{name}: required but not set; set it (see .env.example)"
    hidden = is_secret(model, field) or field.endswith(_NAMES_OF_SECRETS)
    got = "" if hidden else f", got {shown(item['input'])}"
    message = own_message(item)
    if message is not None:
        return f"{name}: {message}{got if message.startswith('expected ') else ''}"
    schema = _schema(model)
    node = schema_at(schema, (field,))
    wanted = f"expected {expected(schema, node)}" if node else str(item["msg"])
    return f"{name}: {wanted}{got}{' (the value is not shown, because it may be a key)' if hidden else ''}"


@lru_cache(4)
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()
