"""The URLs of `smoke`, and the proxies that the environment names."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from apps.platform_cli.main import app
from apps.platform_cli.smoke.addresses import checked_url, client_options, via_proxy
from apps.platform_cli.smoke.session import days_around_today
from apps.platform_cli.terminal.entry import run_app
from platform_app.auth.tokens import generate_token

KEY = generate_token("test").text
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://h:abc", "http://h:99999", "http://h:0", "http://", "ftp://h", "h.example", "", "http://h/a\rb",
        "http://h/a b", "http://[", "http://[::1", "http://u\uff20v@h", "http://ä..example", "http://a..b",
        "http://\u2603.example", "http://xn--\u2603", "http://h\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("option", ["--base-url", "--metrics-url", "--trace-url"])
def test_url_that_cannot_be_requested_is_wrong_usage(option: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--base-url": "http://127.0.0.1:9", option: f"{url}{{trace_id}}" if option == "--trace-url" else url}
    arguments = ["smoke", "--key", KEY, *(part for pair in given.items() for part in pair)]
    if option == "--trace-url" and url in ("http://", "http://h:abc", "http://h:99999", "http://h:0", "http://["):
        arguments[-1] = f"{url}/{{trace_id}}" if url != "http://" else "http:///{trace_id}"
    assert run_app(app, arguments) == 2
    assert option in capsys.readouterr().err


def test_white_space_around_a_url_is_left_out() -> None:
    """A line of a file with CRLF ends in a carriage return."""
    assert checked_url("--base-url", " https://gateway.example:8443/v1\r") == "https://gateway.example:8443/v1"


def transport_for(url: str) -> httpx.AsyncBaseTransport:
    return httpx.AsyncClient(**client_options([url]))._transport_for_url(httpx.URL(url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://127.0.0.1"])
@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "socks5://proxy.example:1080"])
def test_this_machine_is_reached_directly(monkeypatch: pytest.MonkeyPatch, url: str, proxy: str) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    assert "mounts" not in client_options([url])
    assert type(transport_for(url)._pool).__name__ == "AsyncConnectionPool"  # type: ignore[attr-defined]
    assert via_proxy(url) == ""


def test_authority_file_that_cannot_be_read_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    assert run_app(app, ["smoke", "--key", KEY, "--base-url", "https://127.0.0.1:9"]) == 2
    assert "SSL_CERT_FILE (/nowhere/ca.pem): No such file or directory" in capsys.readouterr().err


def test_this_machine_is_reached_directly_beside_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    client = httpx.AsyncClient(**client_options(["http://127.0.0.1:1", "http://gateway.example"]))
    for url, pool in (
        ("http://gateway.example", "AsyncHTTPProxy"),
        ("http://127.0.0.1:1", "AsyncConnectionPool"),
        ("http://[::1]:1", "AsyncConnectionPool"),
    ):
        transport = client._transport_for_url(httpx.URL(url))
        assert type(transport._pool).__name__ == pool  # type: ignore[attr-defined]


def test_proxy_is_named_without_its_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://user:s3cret@proxy.example:3128")
    said = via_proxy("http://gateway.example:8100")
    assert "proxy proxy.example:3128" in said
    assert "add gateway.example to NO_PROXY" in said
    assert "s3cret" not in said
    monkeypatch.setenv("no_proxy", "gateway.example")
    assert via_proxy("http://gateway.example:8100") == ""


def test_proxy_that_is_not_supported_is_wrong_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://user:s3cret@proxy.example:1080")
    assert run_app(app, ["smoke", "--key", KEY, "--base-url", "http://gateway.example"]) == 2
    said = capsys.readouterr().err
    assert "ALL_PROXY: only http:// and https:// proxies are supported" in said
    assert "s3cret" not in said


def test_days_of_the_usage_hold_the_next_midnight() -> None:
    """By default the usage has thirty days until tomorrow, so at midnight its first day leaves."""
    days = days_around_today()
    today = datetime.now(UTC).date()
    assert days["since"] <= str(today - timedelta(days=1))
    assert days["until"] > str(today + timedelta(days=1))
