"""OpenTelemetry's variables: values that its exporter cannot use are named at start, by variable."""

from pathlib import Path

import pytest

from platform_app.config import exports_traces, misspelt_telemetry_variables, telemetry_problems

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=c"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/no/such/file"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/no/such/file"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_TRACES_EXPORTER", "jaeger"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name"),
    ],
)
def test_invalid_variable_is_named(name: str, value: str) -> None:
    [problem] = telemetry_problems({**ENDPOINT, name: value})
    assert problem.startswith(name)


def test_valid_variables_are_accepted() -> None:
    environ = {
        **ENDPOINT,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "HTTP/protobuf",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=Bearer%20x,x-team=a=b",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2.5",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_MAX_QUEUE_SIZE": "4096",
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=x,team=%C3%A4",
        "OTEL_TRACES_EXPORTER": "otlp",
    }
    assert telemetry_problems(environ) == []
    grpc = {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    grpc |= {"OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_INSECURE": "True"}
    assert telemetry_problems(grpc) == []
    assert telemetry_problems({**ENDPOINT, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": " "}) == []


@pytest.mark.parametrize(("part", "value"), [("COMPRESSION", "deflate"), ("INSECURE", "1")])
def test_values_that_grpc_cannot_use_are_named(part: str, value: str) -> None:
    name = f"OTEL_EXPORTER_OTLP_{part}"
    assert telemetry_problems({**ENDPOINT, name: value}) == []
    [problem] = telemetry_problems({**ENDPOINT, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", name: value})
    assert problem.startswith(f"{name}: expected ")


def test_client_certificate_is_read_with_its_key(tmp_path: Path) -> None:
    certificate, key = tmp_path / "client.pem", tmp_path / "client.key"
    certificate.write_text("no certificate")
    variables = {"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE": str(certificate)}
    [problem] = telemetry_problems({**ENDPOINT, **variables, "OTEL_EXPORTER_OTLP_CLIENT_KEY": str(key)})
    assert f"{key} cannot be read" in problem


def test_values_of_headers_are_not_shown() -> None:
    assert "pa55" not in telemetry_problems({**ENDPOINT, "OTEL_EXPORTER_OTLP_HEADERS": "x pa55=pa55"})[0]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "TRUE"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_variables_without_export_are_not_checked(environ: dict[str, str]) -> None:
    assert not exports_traces(environ)
    assert telemetry_problems({**environ, "OTEL_EXPORTER_OTLP_PROTOCOL": "udp"}) == []


def test_misspelt_variables_have_suggestions() -> None:
    names = ("OTEL_EXPORTER_OLTP_ENDPOINT", "OTEL_EXPORTER_JAEGER_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT")
    found = misspelt_telemetry_variables(dict.fromkeys(names, "x"))
    assert found == {"OTEL_EXPORTER_OLTP_ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT"}
