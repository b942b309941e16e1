"""The URLs of a run, and the HTTP clients for them: through the environment's proxy, but directly on this machine."""

import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx
import typer

from platform_app.config.connections.local_host import is_local
from platform_app.config.connections.url_parts import is_host_name, split_url

_LOCAL = ("localhost", "127.0.0.1", "[::1]")


def checked_url(option: str, value: str) -> str:
    """Return the URL without white space around it.

    Raises:
        typer.BadParameter: it is not an http:// or https:// URL that the client can request; exit code 2.
    """
    url = value.strip()
    parts = split_url(url)
    if parts is None or parts.port == 0:
        raise typer.BadParameter(f"{option}: expected a URL with a valid host, and a port from 1 to 65535")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"{option}: expected a URL such as https://gateway.example")
    if not url.isprintable() or " " in url:
        raise typer.BadParameter(f"{option}: has a space or a control character; remove it")
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        raise typer.BadParameter(f"{option}: the HTTP client does not accept this URL; check its host") from None
    if not is_host_name(parts.hostname):
        raise typer.BadParameter(f"{option}: expected a host name with 1 to 63 characters between two dots")
    return url


def client_options(urls: Iterable[str]) -> Mapping[str, Any]:
    """Return the options of a client for these URLs.

    Raises:
        typer.BadParameter: the environment names a proxy that the client cannot use; exit code 2.
    """
    if all(_proxy_of(url) is None for url in urls):
        # Without the environment, because a client for a proxy that it cannot use ends in an error when it is made.
        return {"trust_env": False, "verify": _authorities()}
    options: dict[str, Any] = {"mounts": {f"all://{host}": None for host in _LOCAL}}
    try:
        httpx.AsyncClient(**options)
    except (ImportError, ValueError, httpx.InvalidURL):
        names = sorted(name for name in os.environ if name.lower() in ("all_proxy", "http_proxy", "https_proxy"))
        raise typer.BadParameter(
            f"{', '.join(names)}: only http:// and https:// proxies are supported; unset it, or add the gateway's host "
            "to NO_PROXY"
        ) from None
    return options


def _authorities() -> ssl.SSLContext | bool:
    """Return the CAs of SSL_CERT_FILE and SSL_CERT_DIR, or True for the client's own."""
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if not file and not directory:
        return True
    try:
        return ssl.create_default_context(cafile=file or None, capath=directory or None)
    except OSError as error:  # includes ssl.SSLError
        why = "not a PEM file of certificates" if isinstance(error, ssl.SSLError) else error.strerror
        raise typer.BadParameter(f"SSL_CERT_FILE ({file}): {why}; check the path") from None


def via_proxy(url: str) -> str:
    """Return a sentence that names the proxy of this URL, without its credentials; empty without one."""
    proxy = _proxy_of(url)
    if proxy is None:
        return ""
    parts, target = split_url(proxy if "://" in proxy else f"http://{proxy}"), split_url(url)
    name = "" if parts is None or not parts.hostname else f" {parts.hostname}:{parts.port or 80}"
    host = "" if target is None else target.hostname
    return f" The request went through the proxy{name} of the environment; add {host} to NO_PROXY to reach it directly."


def _proxy_of(url: str) -> str | None:
    parts = split_url(url)
    if parts is None or not parts.hostname or is_local(parts.hostname):
        return None
    proxies = getproxies()
    if proxy_bypass(parts.hostname):
        return None
    return proxies.get(parts.scheme) or proxies.get("all")
