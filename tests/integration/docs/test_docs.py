"""The documentation says what is: its examples are run, its tables compared with the code."""

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from apps.platform_api.chat.schemas import ChatRequestBody, ChatResponse
from apps.platform_api.keys.schemas import CreateKeyBody, KeyView, UpdateKeyBody
from apps.platform_api.main import create_app
from apps.platform_api.security.route_check import PUBLIC, api_routes, guard_of
from apps.platform_api.usage.openapi import UsageGroup
from platform_app import config
from platform_app.auth.permissions import GRANTS
from platform_app.config import FORMER_NAMES, ConfigModel, Settings, load_config, load_settings
from platform_app.errors import PlatformError
from platform_app.ledger.shipping.batch import batch_of
from platform_app.ledger.shipping.shipper import Shipper
from platform_app.observability import metrics
from tests.conftest import Platform
from tests.integration.ledger.test_ledger import session_on
from tests.support.docs.pages import DOCS, page_with_parts
from tests.support.gateway.http import until
from tests.support.gateway.ledger_events import usage
from tests.support.gateway.process import Gateway
from tests.support.paths import ROOT

HTTP, CONFIGURATION, OPERATIONS = (page_with_parts(name) for name in ("http", "configuration", "operations"))
PAGES = sorted(
    [
        *(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "adr"),
        *(ROOT / "runbooks").glob("*.md"),
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
    ]
)
SOURCES = {
    path.name
    for folder in ("apps", "platform_app", "tests", "bench", "migrations")
    for path in (ROOT / folder).glob("**/*.py")
}
DECISIONS = sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
URLS = {"database_url": "postgresql://a:b@localhost/c", "redis_url": "redis://localhost"}

EXAMPLES = re.findall(r"^```bash\n(.*?)^```\n+^```(json|text)\n(.*?)^```", HTTP, re.M | re.S)
KEY = {"name": "billing bot", "owner": "billing", "scopes": ["platform:chat"], "limits": {"key-rpm": 120}}
"""The key whose id the examples find in $KEY_ID."""
COMPARED_BY_VALUE = {"status", "code", "finish_reason", "role", "conversation_id", "name", "ok", "required", "service"}


def table(text: str, header: str) -> list[list[str]]:
    """The rows of the table with this header line, each as its cells."""
    _, _, rest = text.partition(f"{header}\n")
    assert rest, f"no table with the header {header!r}"
    lines = rest.split("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def same_shape(documented: Any, actual: Any, path: str = "") -> None:
    """The same fields and types, and the same values where they are promised."""
    if isinstance(documented, dict):
        assert isinstance(actual, dict), path
        assert actual.keys() == documented.keys(), path
        for name, value in documented.items():
            same_shape(value, actual[name], f"{path}.{name}")
            if name in COMPARED_BY_VALUE and not isinstance(value, dict | list):
                assert actual[name] == value, f"{path}.{name}"
    elif isinstance(documented, list):
        assert isinstance(actual, list), path
        assert len(actual) == len(documented), path
        for index, value in enumerate(documented):
            same_shape(value, actual[index], f"{path}[{index}]")
    else:
        assert type(actual) is type(documented), f"{path}: {actual!r}"


def same_answer(documented: str, actual: str) -> None:
    """Status line, headers but for numbers and ids, and body."""
    head, _, body = documented.partition("\n\n")
    actual_head, _, actual_body = actual.replace("\r\n", "\n").partition("\n\n")
    status, *headers = head.splitlines()
    actual_status, *actual_headers = actual_head.splitlines()
    assert actual_status == status
    assert [line for line in map(without_numbers, headers) if line not in map(without_numbers, actual_headers)] == []
    same_shape(json.loads(body), json.loads(actual_body))


def without_numbers(header: str) -> str:
    """Ids, durations and numbers become letters."""
    header = re.sub(r"\b[0-9a-f]{16,}\b", "H", header.strip())
    header = re.sub(r"(?<=: )(\d+h)?(\d+m)?[\d.]+m?s$", "D", header)
    return re.sub(r"\d+(\.\d+)?", "N", header)


def same_events(documented: str, actual: str) -> None:
    """The same kinds of events in the same order, the first and the last with the same fields."""
    expected, got = list(events(documented)), list(events(actual))
    assert list(dict.fromkeys(name for name, _ in got)) == list(dict.fromkeys(name for name, _ in expected))
    same_shape(expected[0][1], got[0][1])
    same_shape(expected[-1][1], got[-1][1])


def events(text: str) -> Iterator[tuple[str, Any]]:
    """OpenAI's have no name, and `[DONE]` is no JSON."""
    for name, data in re.findall(r"^(?:event: (\w+)\n)?data: (.*)\n\n", text, re.M):
        yield name, data if data == "[DONE]" else json.loads(data)


# Async, since the simulator answers on this process's event loop.
@pytest.mark.parametrize(
    ("command", "kind", "answer"),
    EXAMPLES,
    ids=[f"{n}-{re.findall(r'/[a-z0-9/]+', e[0])[0]}" for n, e in enumerate(EXAMPLES)],
)
async def test_an_http_example_gets_the_documented_answer(
    gateway: Gateway, platform: Platform, client: httpx.AsyncClient, command: str, kind: str, answer: str
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    admin = platform.key("platform:*")
    made = await client.post(
        f"{gateway.base_url}/v1/platform/api-keys", headers={"Authorization": f"Bearer {admin}"}, json=KEY
    )
    environment = {
        "PATH": os.environ["PATH"],
        "PLATFORM_BASE_URL": gateway.base_url,
        "PLATFORM_CHAT_KEY": platform.key("platform:chat"),
        "PLATFORM_ADMIN_KEY": admin,
        "KEY_ID": made.json()["api_key"]["key_id"],
    }
    if "/v1/platform/usage" in command:
        await _use(platform, environment["KEY_ID"])
    process = await asyncio.create_subprocess_exec(
        "bash", "-euo", "pipefail", "-c", command, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0

    if kind == "json":
        same_shape(json.loads(answer), json.loads(output))
    elif answer.startswith("HTTP/"):
        same_answer(answer, output.decode())
    elif not answer.startswith(("event: ", "data: ")):
        assert output.decode() == answer
    else:
        same_events(answer, output.decode())


async def _use(platform: Platform, key_id: str) -> None:
    """Two records of this key in the ledger."""
    records = [
        usage(key_id=key_id, first_token_ms=120.5),
        usage(key_id=key_id, estimated=True, outcome="client_closed"),
    ]
    async with session_on(platform.environment["PLATFORM_DATABASE_URL"]) as session:
        assert await Shipper(session).ship(batch_of(records)) == []


def test_every_bash_block_of_the_http_page_is_an_example() -> None:
    assert len(EXAMPLES) == HTTP.count("```bash\n") >= 8


def test_the_http_page_names_every_route_with_its_scope() -> None:
    documented = {
        route: scope.strip("`")
        for routes, scope, _ in table(HTTP, "| Route | Scope | What |")
        for route in re.findall(r"`([A-Z]+ /\S*)`", routes)
    }
    app = create_app(load_settings(**URLS))
    served = {f"{method} {path}": "none" for method, path in PUBLIC}
    for route in api_routes(app):
        guard = guard_of(route)
        for method in route.methods or ():
            served[f"{method} {route.path_format}"] = str(guard.scope or "any key") if guard else "none"
    assert documented == served


def test_the_http_page_names_every_error() -> None:
    def kinds(base: type[PlatformError]) -> Iterator[type[PlatformError]]:
        for kind in base.__subclasses__():
            yield from kinds(kind)
            if "code" in vars(kind):
                yield kind

    documented = [(row[0], row[1].strip("`")) for row in table(HTTP, "| Status | Code | When | What to do |")]
    assert len(documented) == len(set(documented))
    assert set(documented) == {(str(kind.status), kind.code) for kind in kinds(PlatformError)}


def test_the_http_page_names_every_field_of_request_and_answer() -> None:
    asked = [row[0].strip("`") for row in table(HTTP, "| Field | Type | Meaning |")]
    assert asked == list(ChatRequestBody.model_fields)
    answered = [name for row in table(HTTP, "| Field | Meaning |") for name in re.findall(r"`(\w+)`", row[0])]
    assert answered == list(ChatResponse.model_fields)


def test_the_http_page_names_every_field_of_a_key() -> None:
    rows = table(HTTP, "| Field of a key | Yours to set | Meaning |")
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row[0])] == list(KeyView.model_fields)
    assert {row[0].strip("`") for row in rows if row[1] == "yes"} == set(CreateKeyBody.model_fields)
    assert CreateKeyBody.model_fields.keys() == UpdateKeyBody.model_fields.keys()


def test_the_http_page_names_every_field_and_parameter_of_usage() -> None:
    fields = [name for row in table(HTTP, "| Field of a sum | Meaning |") for name in re.findall(r"`(\w+)`", row[0])]
    assert set(fields) == UsageGroup.model_fields.keys()
    asked = [
        name
        for row in table((DOCS / "http/usage.md").read_text(), "| Parameter | Meaning |")
        for name in re.findall(r"`(\w+)`", row[0])
    ]
    document = create_app(load_settings(**URLS)).openapi()
    parameters = document["paths"]["/v1/platform/usage"]["get"]["parameters"]
    assert sorted(asked) == sorted(each["name"] for each in parameters)


def test_the_http_page_names_every_scope() -> None:
    assert set(re.findall(r"`(platform:[a-z_:*]+)`", HTTP)) == set(GRANTS)


def test_the_configuration_page_has_every_setting_with_its_default() -> None:
    rows = table(CONFIGURATION, "| Variable | Default | Meaning | In production |")
    documented = {row[0].strip("`"): row[1].strip("`") for row in rows}

    def shown(name: str) -> str:
        field = Settings.model_fields[name]
        if field.is_required():
            return "required"
        match field.default:
            case None:
                return "not set"
            case "":
                return "empty"
            case bool():
                return str(field.default).lower()
            case float():
                return f"{field.default:g}"
            case _:
                return str(field.default)

    assert documented == {f"PLATFORM_{name.upper()}": shown(name) for name in Settings.model_fields}
    assert all(row[2] for row in rows), "a setting without a meaning"


def test_the_config_file_of_the_configuration_page_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", CONFIGURATION, re.M | re.S)
    path = tmp_path / "platform.yaml"
    path.write_text(example)

    loaded = load_config(load_settings(**URLS, config_file=path))

    assert loaded.models.keys() == yaml.safe_load(example)["models"].keys()
    assert len(loaded.rate_limits.rules) == 7


def test_the_configuration_page_names_every_field_of_the_config_file() -> None:
    models = [
        kind for kind in vars(config).values()
        if isinstance(kind, type) and issubclass(kind, ConfigModel) and kind is not ConfigModel
    ]  # fmt: skip
    fields = {name for kind in models for name in kind.model_fields}
    assert len(models) >= 6
    assert {name for name in fields if not re.search(rf"\b{name}\b", CONFIGURATION)} == set()


def test_the_operator_guide_lists_every_metric() -> None:
    def row(metric: MetricWrapperBase) -> tuple[str, str, set[str]]:
        kinds = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}
        kind = kinds[type(metric)]
        return metric._name + ("_total" if kind == "counter" else ""), kind, set(metric._labelnames)

    exposed = [row(metric) for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
    rows = table(OPERATIONS, "| Metric | Type | Labels | Meaning |")
    documented = [(name.strip("`"), kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels, *_ in rows]
    assert sorted(documented, key=str) == sorted(exposed, key=str)


async def test_operations_page_lists_access_line_fields(gateway: Gateway, client: httpx.AsyncClient) -> None:
    def access_line() -> dict[str, Any] | None:
        return next((line for line in gateway.log_lines() if line.get("event") == "request"), None)

    await client.get(f"{gateway.base_url}/v1/models")
    await until(lambda: access_line() is not None)

    rows = table(OPERATIONS, "| Field | Meaning |")
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    of_every_line = {"timestamp", "level", "component", "event", "request_id", "trace_id"}
    assert documented == (access_line() or {}).keys() - of_every_line


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_page_names_files_and_variables_that_exist(page: Path) -> None:
    text = page.read_text()
    known = {f"PLATFORM_{name.upper()}" for name in (*Settings.model_fields, *FORMER_NAMES)} | {
        *("PLATFORM_BASE_URL", "PLATFORM_METRICS_URL", "PLATFORM_CHAT_KEY", "PLATFORM_ADMIN_KEY"),
        *("PLATFORM_API_KEY_PEPPER", "PLATFORM_"),
    }
    assert set(re.findall(r"PLATFORM_[A-Z_]*", text)) <= known
    assert not missing_files(text)


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_names_files_that_exist_and_is_in_the_index(page: Path) -> None:
    """Also files named without their folder; a decision that was replaced may name what is gone, without its ending."""
    text = page.read_text()
    assert not missing_files(text)
    assert not set(re.findall(r"`(\w+\.py)`", text)) - SOURCES
    title = text.splitlines()[0].removeprefix("# ")
    status = re.search(r"^Date: \d{4}-\d\d-\d\d\. Status: ((?:accepted|replaced)[^\n]*(?:\n\S[^\n]*)*)\.$", text, re.M)
    assert status is not None, "the second paragraph says date and status"
    number, _, name = title.partition(". ")
    row = f"| [{int(number):04}]({page.name}) | {name} | {' '.join(status[1].split())} |"
    assert row in (ROOT / "docs/adr/README.md").read_text().splitlines(), f"docs/adr/README.md has the line\n{row}"


def missing_files(text: str) -> set[str]:
    files = re.findall(
        r"(?<![\w./{-])((?:docs|runbooks|alerts|dashboards|apps|platform_app|tests|bench|deploy|migrations)/[\w./-]*\w/?)",
        text,
    )
    return {name for name in files if not (ROOT / name).exists()}


@pytest.mark.timeout(700)
@pytest.mark.parametrize("arguments", [["check", "rules", "platform.yml"], ["test", "rules", "platform_test.yml"]])
def test_prometheus_accepts_the_rules_and_their_tests(arguments: list[str]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run(
        ["promtool", *arguments], cwd=ROOT / "alerts", capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
