"""The way out: which proxy, for which hosts, and never a word of its credentials."""

import base64

import pytest

from platform_app.config import load_settings, parse_proxy, read_egress
from platform_app.config.connections.egress import EgressProxy
from platform_app.errors import ConfigurationError

PROXY = "http://proxy.example:3128"
URLS = {"database_url": "postgresql://fb:x@db/platform", "redis_url": "rediss://:x@redis:6379/0"}


def basic(pair: str) -> str:
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.example:3128", EgressProxy("proxy.example", 3128)),
        ("http://proxy.example:3128/", EgressProxy("proxy.example", 3128)),
        ("proxy.example:3128", EgressProxy("proxy.example", 3128)),
        ("http://proxy.example", EgressProxy("proxy.example", 80)),
        ("https://proxy.example", EgressProxy("proxy.example", 443, tls=True)),
        ("http://[2001:db8::1]:3128", EgressProxy("2001:db8::1", 3128)),
        ("http://user:p%40ss%3Aword@proxy:1", EgressProxy("proxy", 1, authorization=basic("user:p@ss:word"))),
        ("user:pw@proxy:1", EgressProxy("proxy", 1, authorization=basic("user:pw"))),
        ("http://user@proxy:1", EgressProxy("proxy", 1, authorization=basic("user:"))),
        ("http://%C3%BC:%E2%82%AC@proxy:1", EgressProxy("proxy", 1, authorization=basic("ü:€"))),
    ],
)
def test_proxy_url_is_read(url: str, proxy: EgressProxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "socks5://s3cret@proxy:1080", "http://", "http://u:s3cret@", "http://u:s3cret@proxy:port",
        "http://u:s3cret@proxy:0", "http://u:s3cret@proxy:70000", "http://u:s3cret@proxy/path",
        "http://u:s3cret@proxy?q", "http://u:s3 cret@proxy", "http://u:s3cret@proxy\r\nX: y", "http://[::1", "ftp://proxy",
    ],
)  # fmt: skip
def test_proxy_url_invalid_is_refused_without_its_text(url: str) -> None:
    with pytest.raises(ValueError, match="expected http://host:port") as caught:
        parse_proxy(url)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigurationError) as refused:
        load_settings(**URLS, egress_proxy=url)
    [problem] = refused.value.problems
    assert problem.startswith("PLATFORM_EGRESS_PROXY: ")
    assert "s3cret" not in problem


def test_credentials_are_not_shown() -> None:
    settings = load_settings(**URLS, egress_proxy="http://user:s3cret@proxy:1")
    shown = f"{settings!r} {settings.egress!r} {settings.model_dump()!r}"
    assert "s3cret" not in shown
    assert basic("user:s3cret").removeprefix("Basic ") not in shown


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "direct"),
    [
        ("", "api.openai.com", 443, False),
        ("*", "api.openai.com", 443, True),
        ("openai.com", "api.openai.com", 443, True),
        ("openai.com", "openai.com", 443, True),
        (".openai.com", "api.openai.com", 443, True),
        ("*.openai.com", "api.openai.com", 443, True),
        ("openai.com", "notopenai.com", 443, False),
        ("openai.com", "openai.com.evil.example", 443, False),
        ("OpenAI.com", "API.openai.COM.", 443, True),
        ("openai.com:443", "api.openai.com", 443, True),
        ("openai.com:8443", "api.openai.com", 443, False),
        ("a.example, b.example", "b.example", 443, True),
        ("a.example b.example", "b.example", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example", 443, False),
        ("127.0.0.1", "127.0.0.1", 80, True),
        ("127.0.0.1:81", "127.0.0.1", 80, False),
        ("127.0.0.1:80", "127.0.0.1", 80, True),
        ("::1", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("2001:db8::/32", "2001:db8::7", 80, True),
        ("localhost", "127.0.0.1", 80, False),
        ('"openai.com,10.0.0.0/8"', "api.openai.com", 443, True),
        ('"openai.com,10.0.0.0/8"', "10.1.2.3", 443, True),
        ("'10.0.0.0/8', 'openai.com'", "api.openai.com", 443, True),
        ("''", "api.openai.com", 443, False),
        ("10.0.0.0/99,,;", "10.0.0.0", 80, False),
    ],
)
def test_no_proxy_names_what_is_reached_directly(no_proxy: str, host: str, port: int, direct: bool) -> None:
    for own, environ in ((PROXY, {}), (None, {"HTTPS_PROXY": PROXY})):
        egress = read_egress(own, {**environ, "NO_PROXY": no_proxy})
        assert (egress.proxy_for(host, port, tls=True) is None) is direct


def test_own_setting_wins_over_the_standard_one() -> None:
    other = {"HTTPS_PROXY": "http://other:1", "https_proxy": "http://lower:1"}
    assert read_egress(PROXY, other).proxy == parse_proxy(PROXY)
    assert read_egress("off", other).proxy is None
    assert read_egress(None, other).proxy == EgressProxy("lower", 1)
    assert read_egress(None, {"HTTPS_PROXY": " "}).proxy is None
    assert read_egress(None, {"https_proxy": " ", "HTTPS_PROXY": f" {PROXY} "}).proxy == parse_proxy(PROXY)
    assert read_egress(None, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}).proxy is None


def test_standard_setting_is_for_tls_alone() -> None:
    standard = read_egress(None, {"HTTPS_PROXY": PROXY})
    assert standard.proxy_for("in-house", 80, tls=False) is None
    assert standard.proxy_for("api.openai.com", 443, tls=True) is not None
    assert read_egress(PROXY, {}).proxy_for("in-house", 80, tls=False) is not None


def test_broken_standard_variables_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://u:s3cret@proxy:1")
    monkeypatch.delenv("https_proxy", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(ConfigurationError) as caught:
        load_settings(**URLS)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["HTTPS_PROXY", "SSL_CERT_FILE"]
    assert "s3cret" not in "".join(caught.value.problems)
    assert "PLATFORM_EGRESS_PROXY=off" in caught.value.problems[0]
