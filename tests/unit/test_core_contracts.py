"""The seam to flowbiz-ai-core, judged by the models of a stand-in."""

import importlib
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import pytest
from pydantic import BaseModel, ValidationError

from platform_app import core_contracts
from platform_app.auth.keys.records import KeyRecord
from platform_app.core_contracts import CONTRACTS, PINNED, CoreStatus
from platform_app.errors import ProviderTimeout
from platform_app.llm.responses import ModelResponse
from tests.stand_in_core.build import Edits, build_wheel
from tests.support.paths import ROOT

RECORD = KeyRecord(
    key_id="k1",
    name="batch",
    owner="team-a",
    environment="live",
    scopes=("platform:chat",),
    allowed_models=("gpt-4o",),
    limits=None,
    expires_at=datetime(2030, 1, 31, 12, tzinfo=UTC),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    created_by="ops",
    revoked_at=None,
    revoked_by=None,
    revoked_reason=None,
    last_used_at=None,
)


class InstallCore(Protocol):
    def __call__(self, *, version: str = PINNED, edits: Edits | None = None) -> None: ...


@pytest.fixture
def no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if core were not installed, also where it is."""

    def not_found(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", not_found)


@pytest.fixture
def install_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InstallCore]:
    """Puts a stand-in first on the path, without its `apps`, which would hide ours from later tests."""
    found_before = _forget_packages()

    def install(*, version: str = PINNED, edits: Edits | None = None) -> None:
        site = tmp_path / "site"
        with zipfile.ZipFile(build_wheel(tmp_path, version=version, edits=edits)) as wheel:
            wheel.extractall(site, [name for name in wheel.namelist() if not name.startswith("apps/")])
        monkeypatch.setattr(sys, "path", [str(site), *sys.path])
        importlib.invalidate_caches()

    yield install
    _forget_packages()
    sys.modules.update(found_before)


def _forget_packages() -> dict[str, Any]:
    names = [name for name in sys.modules if name.split(".")[0] == "packages"]
    return {name: sys.modules.pop(name) for name in names}


def core_model(name: str) -> type[BaseModel]:
    [contract] = [contract for contract in CONTRACTS if contract.name == name]
    model: type[BaseModel] = getattr(importlib.import_module(contract.module), name)
    return model


def completion(message: dict[str, Any], finish_reason: str | None = "stop") -> ModelResponse:
    return ModelResponse(raw=b"", body={"choices": [{"message": message, "finish_reason": finish_reason}]})


def test_core_pin_equals_the_version_of_the_extra() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["optional-dependencies"]["core"] == [f"flowbiz-ai-core=={PINNED}"]


@pytest.mark.usefixtures("no_core")
def test_missing_core_has_no_differences() -> None:
    assert core_contracts.core_status() == CoreStatus(pinned=PINNED, installed=None, compatible=None)
    assert core_contracts.contract_differences() == []
    [problem] = core_contracts.core_problems()
    assert problem.startswith("flowbiz-ai-core is not installed.")


def test_documented_core_is_compatible(install_core: InstallCore) -> None:
    install_core()
    assert core_contracts.contract_differences() == []
    assert core_contracts.core_problems() == []
    assert core_contracts.core_status() == CoreStatus(pinned=PINNED, installed=PINNED, compatible=True)


def test_core_other_version_is_not_compatible(install_core: InstallCore) -> None:
    install_core(version="0.3.0")
    assert core_contracts.core_status() == CoreStatus(pinned=PINNED, installed="0.3.0", compatible=False)
    assert core_contracts.core_problems() == [
        "flowbiz-ai-core 0.3.0 is installed, but this platform is made for 0.2.0."
    ]


@pytest.mark.parametrize(
    ("module", "old", "new", "difference"),
    [
        ("health", "version: str", "version: int", "HealthResponse.version: expected str, core has int"),
        (
            "health",
            'Literal["ok"]',
            'Literal["ok", "degraded"]',
            "HealthResponse.status: expected 'ok', core has 'degraded' | 'ok'",
        ),
        ("health", "version: str", "", "HealthResponse.version: expected str, core has no such field"),
        (
            "health",
            "version: str",
            "version: str\n    uptime: float",
            "HealthResponse.uptime: expected no such field, core has float (required)",
        ),
        ("health", ", frozen=True", "", "HealthResponse: expected frozen=True, core has frozen=False"),
        ("meta", 'extra="forbid", ', "", "RuntimeMeta: expected extra='forbid', core has extra='ignore'"),
        ("meta", "class RuntimeMeta", "class Meta", "RuntimeMeta: core has no such pydantic model"),
        ("meta", "str | None = None", "str", "RuntimeMeta.build_sha: expected str | None, core has str"),
        (
            "observability",
            "trace_id: str\n",
            "trace_id: str = __import__('pydantic').Field(alias='traceId')\n",
            "TraceContextContract.trace_id: expected no alias, core has 'traceId'",
        ),
        (
            "llm_adapter",
            "le=2.0",
            "le=1",
            "LLMRequest.temperature: expected float, <= 2, >= 0, core has float, <= 1, >= 0",
        ),
        ("llm_adapter", "default=256", "default=1", "LLMRequest.max_tokens: expected the default 256, core has 1"),
        (
            "response",
            "retriable: bool = False",
            "retriable: bool",
            "ResponseError.retriable: expected the default False, core requires the field",
        ),
        (
            "auth",
            "key_info: APIKeyInfo",
            "key_info: dict[str, str]",
            "APIKeyValidationResult.key_info: expected APIKeyInfo | None, core has dict[str, str] | None",
        ),
        (
            "security",
            "metadata: dict[str, str]",
            "metadata: dict",
            "SecretReference.metadata: expected dict[str, str], core has dict[str, Any]",
        ),
    ],
)
def test_core_difference_is_named(install_core: InstallCore, module: str, old: str, new: str, difference: str) -> None:
    install_core(edits={f"packages/core/contracts/{module}.py": (old, new)})
    assert core_contracts.contract_differences() == [f"packages.core.contracts.{module}.{difference}"]
    assert core_contracts.core_status().compatible is False


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("alerting", "description: str", 'description: str = ""'),
        ("meta", "str | None = None", "None | str"),
        ("auth", "metadata: dict[str, Any]", "metadata: dict"),
        ("llm_adapter", "ge=0.0, le=2.0", "le=2, ge=0"),
        (
            "alerting",
            'severity: Literal["info", "warning", "critical"]',
            'severity: __import__("enum").StrEnum("Severity", ["CRITICAL", "WARNING", "INFO"])',
        ),
    ],
)
def test_core_other_spelling_of_a_type_is_equal(install_core: InstallCore, module: str, old: str, new: str) -> None:
    install_core(edits={f"packages/core/contracts/{module}.py": (old, new)})
    assert core_contracts.contract_differences() == []


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("from nowhere import Literal", "ModuleNotFoundError: No module named 'nowhere'"),
        ("from typing import", "SyntaxError: "),
        ("raise RuntimeError('half installed')", "RuntimeError: half installed"),
    ],
)
def test_core_import_error_is_a_difference(install_core: InstallCore, new: str, reason: str) -> None:
    install_core(edits={"packages/core/contracts/health.py": ("from typing import Literal", new)})
    [difference] = core_contracts.contract_differences()
    assert difference.startswith(f"packages.core.contracts.health.HealthResponse: cannot be imported: {reason}")


def test_core_models_parse_http_responses(install_core: InstallCore) -> None:
    install_core()
    core_model("HealthResponse").model_validate(core_contracts.health_response("platform", "1.2.3"))
    core_model("RuntimeMeta").model_validate(core_contracts.runtime_meta("platform", "dev", "1.2.3", "abc"))
    core_model("RuntimeMeta").model_validate(core_contracts.runtime_meta("platform", "dev", "1.2.3", None))
    core_model("ErrorPayload").model_validate(core_contracts.error_payload("conflict", "No.", "r1"))
    error = core_contracts.error_response("conflict", "No.", "r1", ["name: taken"])
    assert core_model("ErrorResponse").model_validate(error).model_dump() == error


@pytest.mark.parametrize("details", [None, [], ()])
def test_core_error_without_details_omits_the_member(install_core: InstallCore, details: list[str] | None) -> None:
    install_core()
    error = core_contracts.error_response("conflict", "No.", "r1", details)
    assert error == {"error": {"code": "conflict", "message": "No.", "request_id": "r1"}}
    assert core_model("ErrorResponse").model_validate(error).model_dump() == error


def test_core_stand_in_refuses_unknown_fields(install_core: InstallCore) -> None:
    install_core()
    with pytest.raises(ValidationError, match="extra"):
        core_model("HealthResponse").model_validate(core_contracts.health_response("platform", "1") | {"more": "x"})


def test_chat_result_converts_to_core_response(install_core: InstallCore) -> None:
    install_core()
    response = core_contracts.as_llm_response(completion({"content": "Hello"}), trace_id="t1", model="gpt-4o")
    assert isinstance(response, core_model("LLMResponse"))
    assert response.model_dump() == {
        "status": "ok",
        "trace_id": "t1",
        "content": "Hello",
        "model": "gpt-4o",
        "finish_reason": "stop",
        "error_code": None,
    }


@pytest.mark.parametrize(
    "message", [{"content": None, "tool_calls": []}, {}, {"content": [{"type": "text", "text": "Hello"}]}]
)
def test_core_response_without_text_has_no_content(install_core: InstallCore, message: dict[str, Any]) -> None:
    install_core()
    response = core_contracts.as_llm_response(completion(message, None), trace_id="t1", model="gpt-4o")
    assert (response.content, response.finish_reason) == (None, None)


def test_failed_chat_converts_to_core_response(install_core: InstallCore) -> None:
    install_core()
    fields = core_contracts.llm_error_fields(ProviderTimeout("Too slow."), trace_id="t1", model="gpt-4o")
    response: Any = core_model("LLMResponse").model_validate(fields)
    assert (response.status, response.error_code, response.content) == ("error", "provider_timeout", None)


def test_key_converts_to_core_key(install_core: InstallCore) -> None:
    install_core()
    info = core_contracts.as_api_key_info(RECORD)
    assert isinstance(info, core_model("APIKeyInfo"))
    assert info.model_dump() == {
        "key_id": "k1",
        "owner": "team-a",
        "scopes": ["platform:chat"],
        "expires_at": "2030-01-31T12:00:00+00:00",
        "metadata": {"name": "batch", "environment": "live", "status": "active", "allowed_models": ["gpt-4o"]},
    }


def test_core_key_keeps_the_expiry() -> None:
    local = datetime(2030, 1, 31, 12, tzinfo=timezone(timedelta(hours=7)))
    fields = core_contracts.api_key_info_fields(replace(RECORD, expires_at=local))
    assert datetime.fromisoformat(fields["expires_at"]) == local
    assert core_contracts.api_key_info_fields(replace(RECORD, expires_at=None))["expires_at"] is None


def test_core_key_of_a_revoked_key_has_status_revoked(install_core: InstallCore) -> None:
    install_core()
    revoked = replace(RECORD, revoked_at=datetime(2026, 2, 1, tzinfo=UTC), allowed_models=None)
    metadata_of_key = core_contracts.as_api_key_info(revoked).metadata
    assert (metadata_of_key["status"], metadata_of_key["allowed_models"]) == ("revoked", None)
