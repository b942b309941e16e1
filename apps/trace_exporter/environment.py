"""Prepare the OTEL_* variables for OpenTelemetry's exporters, which do not read all of them as the specification says.

Empty values and spaces around a value raise exceptions in some of them, and are taken as part of the value in others.
"""

from collections.abc import MutableMapping
from urllib.parse import urlsplit

from platform_app.config.connections.local_host import is_local

GRPC = "grpc"
_OTLP = "OTEL_EXPORTER_OTLP_"
_PROXIES = ("grpc_proxy", "http_proxy", "https_proxy", "all_proxy")


def prepare_environment(environ: MutableMapping[str, str]) -> None:
    """Change the variables of this process: a value that is empty or blank is not set, and no value has spaces around
    it. Proxies stay only where the export is to use one."""
    for name in [name for name in environ if name.startswith("OTEL_")]:
        value = environ[name].strip()
        if value:
            environ[name] = value
        else:
            del environ[name]
    endpoint = _value(environ, "ENDPOINT")
    if _value(environ, "PROTOCOL").lower() == GRPC:
        _prepare_grpc(environ, endpoint)
    _prepare_proxies(environ, endpoint)


def _prepare_grpc(environ: MutableMapping[str, str], endpoint: str) -> None:
    if _value(environ, "COMPRESSION").lower() == "none":  # gRPC's exporter refuses it
        _remove(environ, "COMPRESSION")
    if endpoint.startswith(("http://", "https://")):  # then the scheme decides, says the specification
        _remove(environ, "INSECURE")


def _prepare_proxies(environ: MutableMapping[str, str], endpoint: str) -> None:
    """Remove the variables of proxies, but for HTTPS_PROXY and a collector with TLS on another machine."""
    try:
        parts = urlsplit(endpoint)
        https = parts.scheme == "https" and not is_local(parts.hostname or "")
    except ValueError:
        https = False
    unused = [name for name in _PROXIES if name != "https_proxy" or not https]
    for name in [name for name in environ if name.lower() in unused]:
        del environ[name]


def _value(environ: MutableMapping[str, str], part: str) -> str:
    """Return the variable of traces, or that of all signals."""
    return environ.get(f"{_OTLP}TRACES_{part}") or environ.get(f"{_OTLP}{part}", "")


def _remove(environ: MutableMapping[str, str], part: str) -> None:
    for name in (f"{_OTLP}{part}", f"{_OTLP}TRACES_{part}"):
        environ.pop(name, None)
