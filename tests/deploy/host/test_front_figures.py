"""Timeouts and limits of the fronts fit the defaults of the gateway; a change of either shows."""

import re
from pathlib import Path

import pytest

from platform_app.config import Settings
from tests.support.deploy.host.fronts import HAPROXY, NGINX

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "k": 1024, "": 1}


def default(name: str) -> float:
    """Return the default of a setting."""
    return float(Settings.model_fields[name].default)


def directive(path: Path, name: str) -> str:
    """Return the only value of a directive."""
    found = re.findall(rf"^\s*{name}\s+([^;#\n]+?)\s*(?:;|#|$)", path.read_text(encoding="utf-8"), re.M)
    assert len(found) == 1, f"{path.name}: {name}: {found}"
    return str(found[0])


def seconds(path: Path, name: str) -> float:
    """Return the only value of a directive with a duration."""
    found = re.fullmatch(r"(\d+)(ms|s|m)", directive(path, name))
    assert found is not None
    return int(found[1]) * _UNITS[found[2]]


def bytes_of(text: str) -> int:
    """Return the number of a size such as 32k or 11m."""
    found = re.fullmatch(r"(\d+)([km]?)", text)
    assert found is not None
    return int(found[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[found[2]]


@pytest.mark.parametrize(
    ("path", "name"),
    [(NGINX, "proxy_read_timeout"), (HAPROXY, "timeout server"), (HAPROXY, "timeout client")],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_front_does_not_cut_an_idle_response(path: Path, name: str) -> None:
    """A response without a stream may take the total timeout before its first byte; an idle stream sends a comment."""
    assert seconds(path, name) > default("provider_total_timeout_seconds")
    assert seconds(path, name) > default("stream_keep_alive_seconds")


def test_nginx_figures_are_those_of_the_settings() -> None:
    """The gateway refuses by itself, with its own error, before nginx does."""
    upstream = NGINX.read_text(encoding="utf-8").partition("server {")[0]
    kept = re.findall(r"keepalive_timeout (\d+)s", upstream)
    assert len(kept) == 1
    assert int(kept[0]) < default("keep_alive_seconds")
    assert seconds(NGINX, "client_header_timeout") == default("head_timeout_seconds")
    assert seconds(NGINX, "client_body_timeout") == default("body_timeout_seconds")
    assert seconds(NGINX, "proxy_send_timeout") == default("body_timeout_seconds")
    assert seconds(NGINX, "send_timeout") == default("write_timeout_seconds")
    assert bytes_of(directive(NGINX, "client_max_body_size")) > default("max_body_bytes")
    assert bytes_of(directive(NGINX, "large_client_header_buffers").split()[1]) >= default("max_head_bytes")
    assert directive(NGINX, "proxy_buffering") == "off"
    assert directive(NGINX, "proxy_ignore_client_abort") == "off"


def test_haproxy_figures_are_those_of_the_settings() -> None:
    """The buffer holds a whole head, so that the gateway sends the 431."""
    # HAProxy buffers the request, so its timeout is that of the head and the body together.
    whole_request = default("head_timeout_seconds") + default("body_timeout_seconds")
    assert seconds(HAPROXY, "timeout http-request") == whole_request
    assert seconds(HAPROXY, "timeout http-keep-alive") == default("keep_alive_seconds")
    room = int(directive(HAPROXY, "tune.bufsize")) - int(directive(HAPROXY, "tune.maxrewrite"))
    assert room > default("max_head_bytes")
    assert int(directive(HAPROXY, "tune.http.maxhdr")) > default("max_header_count")
    purge = re.findall(r"pool-purge-delay (\d+)s", HAPROXY.read_text(encoding="utf-8"))
    assert int(purge[0]) < default("keep_alive_seconds")
    interval = re.findall(r"inter (\d+)ms", HAPROXY.read_text(encoding="utf-8"))
    assert int(interval[0]) / 1000 < default("shutdown_drain_seconds")
