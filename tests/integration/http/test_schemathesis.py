"""The OpenAPI document against the running gateway: requests and responses conform to it."""

import asyncio
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi.openapi.models import OpenAPI
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # its stubs are no dependency
from schemathesis import HookContext, hooks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema

from apps.platform_api.http.contracts import contract_of
from apps.platform_api.messages.errors import OVERLOADED
from platform_app import errors
from platform_app.observability.context import ClientContract
from tests.support.gateway.process import Gateway
from tests.support.providers.faults import EXPECTED

pytestmark = pytest.mark.proof

BODY_SCHEMA = "response_schema_conformance"
ERROR_MODELS = {
    ClientContract.PLATFORM: "ErrorResponse",
    ClientContract.OPENAI: "OpenAIErrorResponse",
    ClientContract.ANTHROPIC: "AnthropicErrorResponse",
}
REJECTION = "negative_data_rejection"
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    BODY_SCHEMA,
    REJECTION,
    "ignored_auth",
]


@dataclass
class Findings:
    """The result of a run."""

    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{gateway.base_url}/openapi.json", trust_env=False).json()
    return found


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method.upper()} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.fixture
def unique_keys() -> Iterator[None]:
    """Give each request a separate Idempotency-Key.

    Schemathesis uses one key for several bodies, which would make a 422 of every request but the first. An invalid key
    stays as it is.
    """
    numbers = itertools.count(1)

    def name_each_request(_: HookContext, case: Any, __: Any) -> None:
        key = (case.headers or {}).get("Idempotency-Key")
        if key and key.isascii() and key.isprintable() and len(key) <= 255:
            case.headers["Idempotency-Key"] = f"request-{next(numbers)}"

    schemathesis.hook("before_call")(name_each_request)
    yield
    hooks.unregister(name_each_request)


def _run(document: dict[str, Any], gateway: Gateway, key: str) -> Findings:
    """Call every operation with its examples, each constraint's edges, and generated requests; the same in each run."""
    schema = schemathesis.openapi.from_dict(document, config=SchemathesisConfig(seed=1, max_failures=20))
    schema.config.update(base_url=gateway.base_url, headers={"Authorization": f"Bearer {key}"}, request_timeout=300)
    schema.config.generation.update(
        max_examples=60, deterministic=True, database="none", no_shrink=True,
        with_security_parameters=False,  # a made-up X-API-Key beside our key would make a 401 of every request
    )  # fmt: skip
    schema.config.checks.update(included_check_names=CHECKS)
    schema.config.phases.update(phases=["examples", "coverage", "fuzzing"])
    findings = Findings()
    for found in from_schema(schema).execute():
        match found:
            case events.ScenarioFinished():
                findings.cases[found.recorder.label] += len(found.recorder.cases)
                for interaction in found.recorder.interactions.values():
                    if interaction.response is not None:
                        findings.statuses[interaction.response.status_code] += 1
                for case_id, checks in found.recorder.checks.items():
                    for check in checks:
                        response = found.recorder.find_response(case_id=case_id)
                        if check.failure_info is None or (check.name == BODY_SCHEMA and _is_stream(response)):
                            continue
                        if check.name == REJECTION and response is not None and response.status_code == 413:
                            continue  # refused before it was looked at more closely
                        case = found.recorder.cases[case_id].value
                        findings.failures.append(_told(check.name, check.failure_info.failure, case))
            case events.NonFatalError():
                findings.failures.append(f"{found.label}: {found.value!r}")
            case events.FatalError():
                raise found.exception
    return findings


def _is_stream(response: Response | None) -> bool:
    """OpenAPI 3.1 describes a stream as one text; schemathesis reads that schema as one of each event (as in 3.2)."""
    return response is not None and response.headers["content-type"][0].startswith("text/event-stream")


def _told(check: str, failure: Failure, case: Any) -> str:
    return f"{check}: {failure.title}: {failure.message} ({case.method} {case.path}, body {str(case.body)[:300]})"


@pytest.mark.usefixtures("unique_keys")
async def test_gateway_conforms_to_its_document(gateway: Gateway, document: dict[str, Any], chat_key: str) -> None:
    # In a thread: the simulator responds on this loop meanwhile.
    findings = await asyncio.to_thread(_run, document, gateway, chat_key)

    assert not findings.failures, "\n".join(sorted(set(findings.failures))[:10])
    # The run called every operation, and got both successes and refusals.
    assert findings.cases["POST /v1/platform/chat"] > 100
    assert {label for label, count in findings.cases.items() if count} >= {
        "POST /v1/platform/chat", "POST /v1/chat/completions", "POST /v1/embeddings", "GET /v1/models",
        "GET /healthz", "GET /livez", "GET /readyz", "GET /v1/meta",
    }  # fmt: skip
    assert findings.statuses[200] > 60, findings.statuses
    assert findings.statuses[422] > 100, findings.statuses
    # Two of the checks leave the key out, once for each operation.
    assert findings.statuses[401] <= 2 * len(findings.cases), findings.statuses


# --- the document itself


def test_document_is_valid_openapi(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1")
    schemathesis.openapi.from_dict(document).validate()


def test_every_reference_of_the_document_resolves(document: dict[str, Any]) -> None:
    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for inner in value.values():
                yield from references(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from references(inner)

    found = set(references(document))
    assert found
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in target, reference
            target = target[part]


def _examples(response: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield media type, name and value of each example."""
    for media_type, content in response.get("content", {}).items():
        for name, example in content.get("examples", {}).items():
            yield media_type, name, example["value"]


def test_every_response_has_an_example(operations: list[tuple[str, dict[str, Any]]]) -> None:
    assert len(operations) >= 5
    for label, operation in operations:
        assert min(operation["responses"]) in ("200", "201"), label
        for status, response in operation["responses"].items():
            assert response["description"], (label, status)
            assert response["content"], (label, status)
            for media_type in response["content"]:
                found = [name for kind, name, _ in _examples(response) if kind == media_type]
                assert found, f"{label} {status} {media_type} has no example"


def _below(kind: type[errors.PlatformError]) -> Iterator[type[errors.PlatformError]]:
    for inner in kind.__subclasses__():
        yield inner
        yield from _below(inner)


def test_every_documented_code_has_an_example_under_its_status(
    operations: list[tuple[str, dict[str, Any]]], document: dict[str, Any]
) -> None:
    status_of = {kind.code: kind.status for kind in _below(errors.PlatformError)}
    checked = 0
    for label, operation in operations:
        contract = contract_of(label.split()[1], False)
        model = ERROR_MODELS[contract]
        validator = Draft202012Validator(
            {"$ref": f"#/components/schemas/{model}", "components": document["components"]}
        )
        for status, response in operation["responses"].items():
            examples = [(name, value) for _, name, value in _examples(response) if "error" in value]
            for name, value in examples:
                validator.validate(value)
                code = value["error"].get("code") or value["error"]["details"]["error_code"]
                assert code == name, label
                overloaded = value["error"].get("type") == "overloaded_error"
                assert int(status) == (OVERLOADED if overloaded else status_of[name]), (label, name)
                checked += 1
            if label == "POST /v1/platform/chat" and status != "200":
                assert response["description"].split(", ") == [name for name, _ in examples]
    assert checked >= 20


def test_every_code_of_chat_is_documented(operations: list[tuple[str, dict[str, Any]]]) -> None:
    ((_, chat),) = [found for found in operations if found[0] == "POST /v1/platform/chat"]
    documented = {name for response in chat["responses"].values() for _, name, _ in _examples(response)}
    by_providers = {kind.code for expected in EXPECTED.values() for kind in (expected.json, expected.stream) if kind}
    by_us = {
        kind.code
        for kind in (
            errors.InvalidRequest, errors.MissingCredentials, errors.InvalidApiKey, errors.InsufficientScope,
            errors.ModelNotAllowed, errors.PriceUnknown, errors.ModelNotFound, errors.PayloadTooLarge,
            errors.UnsupportedMediaType, errors.ValidationFailed, errors.HeadersTooLarge, errors.RateLimited,
            errors.AuthUnavailable, errors.LimiterUnavailable, errors.ProviderNotConfigured, errors.Overloaded,
            errors.Draining, errors.InternalError,
        )
    }  # fmt: skip
    assert by_us | by_providers <= documented


def test_examples_match_their_schemas(operations: list[tuple[str, dict[str, Any]]], document: dict[str, Any]) -> None:
    ((_, chat),) = [found for found in operations if found[0] == "POST /v1/platform/chat"]
    for name, content in (
        ("ChatRequestBody", chat["requestBody"]["content"]["application/json"]),
        ("ChatResponse", chat["responses"]["200"]["content"]["application/json"]),
    ):
        assert name in str(content["schema"])
        validator = Draft202012Validator({**content["schema"], "components": document["components"]})
        assert content["examples"]
        for example in content["examples"].values():
            validator.validate(example["value"])


async def test_real_response_matches_its_schema(
    gateway: Gateway, document: dict[str, Any], client: httpx.AsyncClient, chat_key: str
) -> None:
    response = await client.post(
        gateway.chat_url, headers={"Authorization": f"Bearer {chat_key}"}, json={"prompt": "Hello"}
    )
    schema = {"$ref": "#/components/schemas/ChatResponse", "components": document["components"]}
    Draft202012Validator(schema).validate(response.json())
    # Not one field more than the document names.
    assert set(response.json()) == set(document["components"]["schemas"]["ChatResponse"]["properties"])


def test_only_guarded_routes_ask_for_credentials(operations: list[tuple[str, dict[str, Any]]]) -> None:
    for label, operation in operations:
        guarded = operation.get("security")
        own = contract_of(label.split()[1], False) is ClientContract.PLATFORM
        assert bool(guarded) == ("platform" in label or not own), label
        if guarded:
            assert guarded == [{"bearer": []}, {"apiKey": []}, {"azureApiKey": []}]
            any_key = "Scope: none, any key" in operation["description"]
            assert any_key == (label in ("GET /v1/platform/limits", "GET /v1/platform/usage"))
            assert any_key or "Scope: `platform:" in operation["description"]
            assert {"401", "403"} <= set(operation["responses"])
