"""Variables that other programs share with the gateway: the proxy, certificate authorities, and OpenTelemetry."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from platform_app.config.connections.egress import DIRECT, read_egress
from platform_app.config.connections.tls_files import ca_problem, certificate_problem
from platform_app.config.connections.url_parts import split_url
from platform_app.config.reading.values import did_you_mean, shown

_OTLP = "OTEL_EXPORTER_OTLP_"
PROTOCOLS = ("http/protobuf", "grpc")
COMPRESSIONS = {"http/protobuf": ("none", "gzip", "deflate"), "grpc": ("none", "gzip")}
_COUNTS = ("OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY",
           "OTEL_BSP_EXPORT_TIMEOUT")  # fmt: skip
_PARTS = ("ENDPOINT", "PROTOCOL", "HEADERS", "TIMEOUT", "COMPRESSION", "CERTIFICATE", "CLIENT_KEY",
          "CLIENT_CERTIFICATE", "INSECURE")  # fmt: skip
_SIGNALS = ("", "TRACES_", "METRICS_", "LOGS_", "PROFILES_")
_OTLP_NAMES = frozenset(f"{_OTLP}{signal}{part}" for signal in _SIGNALS for part in _PARTS) | {
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
}
_OTHER_EXPORTERS = re.compile(r"OTEL_EXPORTER_(JAEGER|ZIPKIN|PROMETHEUS)_\w+")
_ATTRIBUTE_NAME = re.compile(r"[\x21-\x7e]+")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:[0-9]{1,5}")
DEFAULT_QUEUE, DEFAULT_BATCH = 2048, 512


def standard_problems(own_proxy: str | None, environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the proxy and the file of CAs. `own_proxy` is the value of PLATFORM_EGRESS_PROXY."""
    problems = []
    try:
        read_egress(own_proxy, environ)
    except ValueError as error:
        problems.append(f"HTTPS_PROXY: {error}; or set PLATFORM_EGRESS_PROXY={DIRECT} to use no proxy")
    path = environ.get("SSL_CERT_FILE")
    if path and (problem := ca_problem(Path(path))) is not None:
        problems.append(f"SSL_CERT_FILE: {problem}, or unset it")
    return problems


def exports_traces(environ: Mapping[str, str]) -> bool:
    """Return whether OpenTelemetry's variables name a collector."""
    disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    none = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    return bool(_value(environ, "ENDPOINT")) and not disabled and not none


def telemetry_problems(environ: Mapping[str, str]) -> list[str]:
    """Return what is wrong with OpenTelemetry's variables, if traces are exported. Values of headers are not shown."""
    if not exports_traces(environ):
        return []
    problems = []
    for part, check in _CHECKS.items():
        for name in (f"{_OTLP}{part}", f"{_OTLP}TRACES_{part}"):
            value = environ.get(name, "").strip()
            if value and (problem := check(value, environ)) is not None:
                problems.append(f"{name}: {problem}")
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter not in ("", "otlp"):
        problems.append(f"OTEL_TRACES_EXPORTER: expected otlp or none, got {shown(exporter)}")
    attributes = environ.get("OTEL_RESOURCE_ATTRIBUTES", "").strip()
    if attributes and not _are_pairs(attributes, _ATTRIBUTE_NAME):
        problems.append("OTEL_RESOURCE_ATTRIBUTES: expected name=value pairs separated by commas, percent-encoded")
    return problems + list(_client_certificate_problems(environ)) + list(_queue_problems(environ))


def misspelt_telemetry_variables(environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return variables that start as those of OpenTelemetry's exporters but are none, each with the most similar
    name."""
    return {
        name: did_you_mean(name, _OTLP_NAMES)
        for name in sorted(environ)
        if name.startswith("OTEL_EXPORTER_") and name not in _OTLP_NAMES and not _OTHER_EXPORTERS.fullmatch(name)
    }


def _client_certificate_problems(environ: Mapping[str, str]) -> Iterator[str]:
    certificate, key = _value(environ, "CLIENT_CERTIFICATE"), _value(environ, "CLIENT_KEY")
    if key and not certificate:
        yield f"{_OTLP}CLIENT_KEY: expected the certificate of the key too, in {_OTLP}CLIENT_CERTIFICATE"
    elif certificate and (problem := certificate_problem(Path(certificate), Path(key) if key else None)) is not None:
        yield f"{_OTLP}CLIENT_CERTIFICATE: {problem}"


def _queue_problems(environ: Mapping[str, str]) -> Iterator[str]:
    sizes = {}
    for name in _COUNTS:
        value = environ.get(name, "").strip()
        if value and not (value.isascii() and value.isdigit() and int(value[:10]) > 0):
            yield f"{name}: expected a whole number above 0, got {shown(value)}"
        elif value:
            sizes[name] = int(value[:10])
    queue, batch = sizes.get(_COUNTS[0], DEFAULT_QUEUE), sizes.get(_COUNTS[1], DEFAULT_BATCH)
    if batch > queue:
        yield f"{_COUNTS[0]} ({queue}) is below {_COUNTS[1]} ({batch}); raise the former or lower the latter"


def _endpoint(value: str, environ: Mapping[str, str]) -> str | None:
    parts = split_url(value)
    valid = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    grpc = _protocol_of(environ) == "grpc" and _HOST_AND_PORT.fullmatch(value)
    if valid or grpc:
        return None
    return f"expected the collector's URL, such as http://127.0.0.1:4318, got {shown(value)}"


def _protocol(value: str, _: Mapping[str, str]) -> str | None:
    expected = " or ".join(PROTOCOLS)
    return None if value.lower() in PROTOCOLS else f"expected {expected}, got {shown(value)}"


def _headers(value: str, _: Mapping[str, str]) -> str | None:
    if _are_pairs(value, _HEADER_NAME):
        return None
    return "expected name=value pairs separated by commas, values percent-encoded (the value is not shown)"


def _timeout(value: str, _: Mapping[str, str]) -> str | None:
    try:
        valid = 0 < float(value) < float("inf")
    except ValueError:
        valid = False
    return None if valid else f"expected seconds above 0, such as 10, got {shown(value)}"


def _compression(value: str, environ: Mapping[str, str]) -> str | None:
    possible = COMPRESSIONS.get(_protocol_of(environ), COMPRESSIONS["http/protobuf"])
    return None if value.lower() in possible else f"expected {' or '.join(possible)}, got {shown(value)}"


def _insecure(value: str, environ: Mapping[str, str]) -> str | None:
    if _protocol_of(environ) != "grpc" or value.lower() in ("true", "false"):
        return None
    return f"expected true or false, got {shown(value)}"


def _certificate(value: str, _: Mapping[str, str]) -> str | None:
    return ca_problem(Path(value))


_CHECKS = {
    "ENDPOINT": _endpoint, "PROTOCOL": _protocol, "HEADERS": _headers, "TIMEOUT": _timeout,
    "COMPRESSION": _compression, "CERTIFICATE": _certificate, "INSECURE": _insecure,
}  # fmt: skip


def _protocol_of(environ: Mapping[str, str]) -> str:
    return _value(environ, "PROTOCOL").lower() or PROTOCOLS[0]


def _value(environ: Mapping[str, str], part: str) -> str:
    """Return the variable of traces or, if that is not set or blank, that of all signals."""
    return environ.get(f"{_OTLP}TRACES_{part}", "").strip() or environ.get(f"{_OTLP}{part}", "").strip()


def _are_pairs(value: str, name: re.Pattern[str]) -> bool:
    pairs = [pair.strip().partition("=") for pair in value.split(",") if pair.strip()]
    return all(equals and name.fullmatch(key.strip()) and unquote(text).isprintable() for key, equals, text in pairs)
