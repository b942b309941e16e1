"""OpenTelemetry's variables, as its exporters can use them."""

import pytest

from apps.trace_exporter.environment import prepare_environment

GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "GRPC "}
HTTP_ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}
PROXIES = {"HTTP_PROXY": "a", "https_proxy": "b", "ALL_PROXY": "c", "grpc_proxy": "d"}


def prepared(environ: dict[str, str]) -> dict[str, str]:
    prepare_environment(environ)
    return environ


def test_blank_values_are_not_set() -> None:
    found = prepared({"OTEL_SERVICE_NAME": " ", "OTEL_BSP_SCHEDULE_DELAY": "", "OTEL_X": " a b\r", "OTHER": " "})
    assert found == {"OTEL_X": "a b", "OTHER": " "}


def test_grpc_without_compression_names_none() -> None:
    other = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "None"}
    assert not any("COMPRESSION" in name for name in prepared({**GRPC, **other}))
    other = {"OTEL_EXPORTER_OTLP_COMPRESSION": "none", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "gzip"}
    assert prepared({**GRPC, **other})["OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"] == "gzip"


def test_grpc_scheme_decides_about_tls() -> None:
    insecure = {"OTEL_EXPORTER_OTLP_INSECURE": "false", "OTEL_EXPORTER_OTLP_TRACES_INSECURE": "1"}
    assert not any("INSECURE" in name for name in prepared({**GRPC, **HTTP_ENDPOINT, **insecure}))
    without_scheme = {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}
    assert prepared({**GRPC, **without_scheme, **insecure})["OTEL_EXPORTER_OTLP_INSECURE"] == "false"


@pytest.mark.parametrize(
    ("endpoint", "kept"),
    [
        ("http://collector:4318", set()),
        ("https://localhost:4318", set()),
        ("https://127.0.0.1:4318", set()),
        ("https://[", set()),
        ("https://otlp.vendor.example", {"https_proxy"}),
    ],
)
def test_proxy_is_for_a_remote_collector_with_tls(endpoint: str, kept: set[str]) -> None:
    found = prepared({"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "NO_PROXY": "x", **PROXIES})
    assert found.keys() == {"OTEL_EXPORTER_OTLP_ENDPOINT", "NO_PROXY", *kept}
