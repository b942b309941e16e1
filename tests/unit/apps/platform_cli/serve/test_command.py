"""The socket on which `serve` listens."""

import socket
from typing import Any

import pytest

from apps.platform_cli.serve.command import _listen

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))


@pytest.mark.parametrize(("found", "bound"), [([V6], "::1"), ([V6, V4], "127.0.0.1"), ([V4], "127.0.0.1")])
def test_name_is_bound_in_the_family_that_it_has(monkeypatch: pytest.MonkeyPatch, found: list[Any], bound: str) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with _listen("gateway.internal", 0, 1) as listening:
        assert listening.getsockname()[0] == bound


@pytest.mark.parametrize(("host", "bound"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("", "0.0.0.0"), ("::", "::")])
def test_address_is_bound_as_it_is(host: str, bound: str) -> None:
    with _listen(host, 0, 1) as listening:
        assert listening.getsockname()[0] == bound


def test_name_that_does_not_resolve_is_an_error() -> None:
    with pytest.raises(OSError), _listen("no.such.host.invalid", 0, 1):  # noqa: PT011 - run_serve takes every one
        pass
