"""The only module that knows flowbiz-ai-core: the contracts that the platform keeps, and whether the installed core has
the same ones.

Core is optional and not on a public registry, so only the two functions named `as_…` need it to be installed. CONTRACTS
describes core's contract models as data; `contract_differences` compares them with the installed ones.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from importlib import metadata
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from platform_app.auth.keys.records import KeyRecord
from platform_app.errors import PlatformError
from platform_app.llm.responses import ModelResponse

if TYPE_CHECKING:
    from packages.core.contracts.auth import APIKeyInfo
    from packages.core.contracts.llm_adapter import LLMResponse

DISTRIBUTION = "flowbiz-ai-core"
PINNED = "0.2.0"
"""The version that CONTRACTS describes; the extra `core` in pyproject.toml names the same."""

_CONTRACTS = "packages.core.contracts"
_SCHEMAS = "packages.core.schemas"


@dataclass(frozen=True, slots=True)
class Contract:
    """One of core's models, as PINNED documents it. Every one forbids extra fields.

    A field is an annotation, or the name of another contract. `defaults` lists the defaults that core documents. Other
    fields may have a default in core; the platform sets every field, so it does not depend on them.
    """

    module: str
    name: str
    fields: Mapping[str, object]
    defaults: Mapping[str, object] = field(default_factory=dict)
    frozen: bool = True

    @property
    def path(self) -> str:
        """The model's import path in core."""
        return f"{self.module}.{self.name}"


CONTRACTS = (
    Contract(f"{_CONTRACTS}.health", "HealthResponse", {"status": Literal["ok"], "service": str, "version": str}),
    Contract(
        f"{_CONTRACTS}.meta",
        "RuntimeMeta",
        {"service": str, "environment": str, "version": str, "build_sha": str | None},
    ),
    Contract(
        f"{_SCHEMAS}.error",
        "ErrorPayload",
        {"code": str, "message": str, "request_id": str, "details": list[str] | None},
        frozen=False,
    ),
    Contract(f"{_SCHEMAS}.error", "ErrorResponse", {"error": "ErrorPayload"}, frozen=False),
    Contract(
        f"{_CONTRACTS}.response",
        "ResponseError",
        {"code": str, "message": str, "details": dict[str, Any], "retriable": bool},
        {"details": {}, "retriable": False},
    ),
    Contract(
        f"{_CONTRACTS}.llm_adapter",
        "LLMRequest",
        {
            "trace_id": str,
            "prompt": str,
            "temperature": Annotated[float, Ge(0), Le(2)],
            "max_tokens": Annotated[int, Ge(1)],
            "model": str,
        },
        {"temperature": 0.0, "max_tokens": 256},
    ),
    Contract(
        f"{_CONTRACTS}.llm_adapter",
        "LLMResponse",
        {
            "status": Literal["ok", "error"],
            "trace_id": str,
            "content": str | None,
            "model": str,
            "finish_reason": str | None,
            "error_code": str | None,
        },
    ),
    Contract(
        f"{_CONTRACTS}.llm_adapter",
        "LLMAdapterInfo",
        {"adapter_name": str, "provider": str, "supports_streaming": bool},
    ),
    Contract(
        f"{_CONTRACTS}.auth",
        "APIKeyInfo",
        {"key_id": str, "owner": str, "scopes": list[str], "expires_at": str | None, "metadata": dict[str, Any]},
    ),
    Contract(
        f"{_CONTRACTS}.auth",
        "APIKeyValidationResult",
        {"result": Literal["allow", "deny"], "key_info": Union["APIKeyInfo", None], "reason": str | None},
    ),
    Contract(f"{_CONTRACTS}.auth", "RateLimitPolicy", {"name": str, "requests_per_minute": int, "burst": int}),
    Contract(
        f"{_CONTRACTS}.auth", "RateLimitResult", {"allowed": bool, "remaining": int, "retry_after_seconds": float}
    ),
    Contract(
        f"{_CONTRACTS}.observability",
        "TraceContextContract",
        {"trace_id": str, "request_id": str | None, "span_id": str | None, "parent_span_id": str | None},
    ),
    Contract(
        f"{_CONTRACTS}.security",
        "SecretReference",
        {
            "key": str,
            "version": int,
            "created_at": float,
            "expires_at": float | None,
            "metadata": dict[str, str],
        },
    ),
    Contract(
        f"{_CONTRACTS}.security",
        "AuditLogEntry",
        {
            "action": Literal[
                "create",
                "read",
                "update",
                "delete",
                "login",
                "logout",
                "permission_change",
                "config_change",
                "secret_access",
            ],
            "actor": str,
            "resource": str,
            "resource_id": str,
            "details": dict[str, Any],
            "timestamp": float,
            "ip_address": str,
            "trace_id": str,
        },
    ),
    Contract(
        f"{_CONTRACTS}.alerting",
        "AlertRule",
        {
            "name": str,
            "description": str,
            "severity": Literal["info", "warning", "critical"],
            "condition": str,
            "threshold": float,
            "evaluation_interval_seconds": int,
        },
    ),
)


@dataclass(frozen=True, slots=True)
class CoreStatus:
    """The core version that this platform is made for, and the installed one."""

    pinned: str
    installed: str | None
    compatible: bool | None
    """None if core is not installed; True if it is PINNED and has no differences."""


def core_status() -> CoreStatus:
    """Return core's status. This imports core's contracts if core is installed, so call it once, at start."""
    installed = _installed_version()
    compatible = None if installed is None else not core_problems()
    return CoreStatus(PINNED, installed, compatible)


def core_problems() -> list[str]:
    """Return why PLATFORM_REQUIRE_CORE is not satisfied, in whole sentences; empty if it is."""
    installed = _installed_version()
    if installed is None:
        return [f"{DISTRIBUTION} is not installed. Install {PINNED} from your own index or a wheel."]
    problems = contract_differences()
    if installed != PINNED:
        problems.insert(0, f"{DISTRIBUTION} {installed} is installed, but this platform is made for {PINNED}.")
    return problems


def contract_differences() -> list[str]:
    """Return one sentence for each difference between the installed core and CONTRACTS; empty if core is not installed.

    A contract that cannot be imported, for whatever reason, is one difference.
    """
    if _installed_version() is None:
        return []
    return [difference for contract in CONTRACTS for difference in _differences(contract)]


def health_response(service: str, version: str) -> dict[str, str]:
    """Return a body that parses as core's HealthResponse."""
    return {"status": "ok", "service": service, "version": version}


def runtime_meta(service: str, environment: str, version: str, build_sha: str | None) -> dict[str, str | None]:
    """Return a body that parses as core's RuntimeMeta."""
    return {"service": service, "environment": environment, "version": version, "build_sha": build_sha}


def error_payload(code: str, message: str, request_id: str, details: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a body that parses as core's ErrorPayload. Like core's own dump it omits empty `details`."""
    payload: dict[str, Any] = {"code": code, "message": message, "request_id": request_id}
    if details:
        payload["details"] = list(details)
    return payload


def error_response(code: str, message: str, request_id: str, details: Sequence[str] | None = None) -> dict[str, Any]:
    """Return a body that parses as core's ErrorResponse: that of every error on the platform's own routes."""
    return {"error": error_payload(code, message, request_id, details)}


def llm_response_fields(completion: ModelResponse, *, trace_id: str, model: str) -> dict[str, str | None]:
    """Return a chat result as the fields of core's LLMResponse; `model` is the public name."""
    content = completion.message.get("content")
    return {
        "status": "ok",
        "trace_id": trace_id,
        "content": content if isinstance(content, str) else None,
        "model": model,
        "finish_reason": completion.finish_reason,
        "error_code": None,
    }


def llm_error_fields(error: PlatformError, *, trace_id: str, model: str) -> dict[str, str | None]:
    """Return a failed chat as the fields of core's LLMResponse, which has no field for the error's message."""
    return {
        "status": "error",
        "trace_id": trace_id,
        "content": None,
        "model": model,
        "finish_reason": None,
        "error_code": error.code,
    }


def api_key_info_fields(record: KeyRecord) -> dict[str, Any]:
    """Return a key as the fields of core's APIKeyInfo, expires_at in ISO 8601.

    Core's model cannot say that a key was revoked, so `metadata` carries the status.
    """
    return {
        "key_id": record.key_id,
        "owner": record.owner,
        "scopes": list(record.scopes),
        "expires_at": None if record.expires_at is None else record.expires_at.isoformat(),
        "metadata": {
            "name": record.name,
            "environment": record.environment,
            "status": record.status(),
            "allowed_models": None if record.allowed_models is None else list(record.allowed_models),
        },
    }


def as_llm_response(completion: ModelResponse, *, trace_id: str, model: str) -> "LLMResponse":
    """Return a chat result as core's own LLMResponse.

    Raises:
        ImportError: core is not installed.
    """
    contracts = importlib.import_module(f"{_CONTRACTS}.llm_adapter")
    response: LLMResponse = contracts.LLMResponse(**llm_response_fields(completion, trace_id=trace_id, model=model))
    return response


def as_api_key_info(record: KeyRecord) -> "APIKeyInfo":
    """Return a key as core's own APIKeyInfo.

    Raises:
        ImportError: core is not installed.
    """
    contracts = importlib.import_module(f"{_CONTRACTS}.auth")
    info: APIKeyInfo = contracts.APIKeyInfo(**api_key_info_fields(record))
    return info


def _installed_version() -> str | None:
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return None


def _differences(contract: Contract) -> Iterator[str]:
    try:
        model = getattr(importlib.import_module(contract.module), contract.name, None)
    except Exception as error:  # noqa: BLE001 - core's code runs here, and any exception is the difference
        yield f"{contract.path}: cannot be imported: {type(error).__name__}: {error}"
        return
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        yield f"{contract.path}: core has no such pydantic model"
        return
    if (extra := model.model_config.get("extra", "ignore")) != "forbid":
        yield f"{contract.path}: expected extra='forbid', core has extra={extra!r}"
    if (frozen := model.model_config.get("frozen", False)) != contract.frozen:
        yield f"{contract.path}: expected frozen={contract.frozen}, core has frozen={frozen}"
    for name in dict.fromkeys([*contract.fields, *model.model_fields]):
        for difference in _field_differences(contract, name, model.model_fields.get(name)):
            yield f"{contract.path}.{name}: {difference}"


def _field_differences(contract: Contract, name: str, actual: FieldInfo | None) -> Iterator[str]:
    if actual is None:
        yield f"expected {_spelled(contract.fields[name])}, core has no such field"
        return
    type_in_core = _spelled(_with_limits(actual))
    if name not in contract.fields:
        yield f"expected no such field, core has {type_in_core}{' (required)' if actual.is_required() else ''}"
        return
    if (expected := _spelled(contract.fields[name])) != type_in_core:
        yield f"expected {expected}, core has {type_in_core}"
    for alias in {actual.validation_alias, actual.serialization_alias} - {None, name}:
        yield f"expected no alias, core has {alias!r}"
    if name in contract.defaults:
        yield from _default_differences(contract.defaults[name], actual)


def _default_differences(expected: object, actual: FieldInfo) -> Iterator[str]:
    if actual.is_required():
        yield f"expected the default {expected!r}, core requires the field"
        return
    default = actual.get_default(call_default_factory=True, validated_data={})
    if default != expected:
        yield f"expected the default {expected!r}, core has {default!r}"


def _with_limits(actual: FieldInfo) -> object:
    """Return a field's full annotation, which pydantic splits into type and metadata."""
    return Annotated[actual.annotation, *actual.metadata] if actual.metadata else actual.annotation


def _spelled(annotation: object) -> str:
    """Return one spelling for each type: `Optional[str]`, `None | str` and `str | None` are equal, and so are a Literal
    and an Enum of the same values."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return ", ".join([_spelled(arguments[0]), *sorted(_limit(item) for item in arguments[1:])])
    if origin in (Union, UnionType):
        return _alternatives(_spelled(argument) for argument in arguments)
    if origin is Literal:
        return _alternatives(repr(value) for value in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _alternatives(repr(member.value) for member in annotation)
    if annotation is NoneType:
        return "None"
    if annotation is dict:
        return "dict[str, Any]"
    if isinstance(origin, type):
        return f"{origin.__name__}[{', '.join(_spelled(argument) for argument in arguments)}]"
    if isinstance(annotation, type):
        return annotation.__name__
    return str(getattr(annotation, "__forward_arg__", annotation)).removeprefix("typing.")


def _alternatives(spellings: Iterator[str]) -> str:
    return " | ".join(sorted(set(spellings), key=lambda spelling: (spelling == "None", spelling)))


def _limit(item: object) -> str:
    """Return a number without its type: a limit of 2 equals one of 2.0."""
    match item:
        case Ge(ge=least):
            return f">= {least:g}"
        case Le(le=most):
            return f"<= {most:g}"
    return repr(item)
