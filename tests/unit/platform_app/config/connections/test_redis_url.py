"""Redis' URLs: TLS to other machines unless disabled by name, and no parameter that fails later."""

from pathlib import Path
from typing import Any

import pytest

from platform_app.config import Settings, load_settings
from platform_app.errors import ConfigurationError
from tests.support.servers.network.tls.certificates import Authority

pytestmark = pytest.mark.usefixtures("bare_environment")


def settings(url: str, **fields: Any) -> Settings:
    return load_settings(database_url="postgresql://localhost/p", redis_url=url, **fields)


def problem_of(url: str, **fields: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings(url, **fields)
    [problem] = caught.value.problems
    assert "pa55word" not in problem
    return problem


@pytest.mark.parametrize("url", ["redis://:pa55word@redis:6379/0", "redis://10.0.0.7", "redis://[2001:db8::1]:6379"])
def test_clear_redis_url_to_another_machine_needs_permission(url: str) -> None:
    assert "rediss://, or set PLATFORM_REDIS_TLS=off" in problem_of(url)
    [line] = settings(url, redis_tls="off").insecure_connections()
    assert line.startswith("PLATFORM_REDIS_TLS=off: ")


@pytest.mark.parametrize(
    "url",
    ["redis://localhost", "redis://", "redis://127.0.0.1:1/0", "redis://[::1]", "unix:///x.sock", "rediss://redis"],
)
def test_secure_redis_url_needs_no_permission(url: str) -> None:
    assert settings(url).insecure_connections() == []


@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_check_hostname=false"])
def test_unverified_redis_url_is_reported(query: str) -> None:
    [line] = settings(f"rediss://redis?{query}").insecure_connections()
    assert "turns verification off" in line


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rediss://redis?ssl_cert_reqs=pa55word", "ssl_cert_reqs must be one of none, optional, required"),
        ("rediss://redis?ssl_ca_certs=/nowhere/pa55word", "ssl_ca_certs (or PLATFORM_REDIS_CA_FILE): the file cannot"),
        ("rediss://redis?ssl_certfile=/etc/hostname", "ssl_certfile: OpenSSL does not accept"),
        ("rediss://redis?ssl_min_version=771&ssl_ciphers=pa55word", "OpenSSL does not accept"),
        ("rediss://redis?ssl_min_version=1", "ssl_min_version: OpenSSL does not accept"),
        ("redis://localhost?ssl_cert_reqs=none", "ssl_cert_reqs needs a rediss:// URL"),
        ("redis://localhost?socket_timeout=9", "socket_timeout is not supported here: use PLATFORM_REDIS_TIMEOUT_MS"),
        ("redis://localhost?max_connections=1", "max_connections is not supported here"),
        ("redis://localhost?client_name=my%20gateway", "client_name must be printable ASCII characters without spaces"),
        ("redis://localhost?client_name=caf%C3%A9", "client_name must be"),
        ("redis://localhost?client_name=a%0Ab", "client_name must be"),
        ("redis://local%00host", "expected a host"),
        ("redis://local%20host", "expected a host"),
        ("unix:///run/x%00y.sock", "the path of the socket"),
        ("redis://localhost?pa55word=1", "parameter number 1 of the URL's query is not known"),
        ("redis://localhost?db=1&db=2", "db is given more than once"),
        ("redis://localhost?protocol=9", "protocol must be 2 or 3"),
    ],
)  # fmt: skip
def test_unusable_redis_parameter_is_refused_by_name(url: str, words: str) -> None:
    assert words in problem_of(url)


def test_redis_ca_file_is_added_to_tls_urls(tmp_path: Path) -> None:
    ca_file = Authority().write(tmp_path / "my ca.pem")
    for url, expected in (
        ("rediss://redis", f"rediss://redis?ssl_ca_certs={tmp_path}/my%20ca.pem"),
        ("rediss://redis/0?db=1", f"rediss://redis/0?db=1&ssl_ca_certs={tmp_path}/my%20ca.pem"),
        ("redis://localhost", "redis://localhost"),
    ):
        assert settings(url, redis_ca_file=ca_file).redis_client_url == expected
    named = f"rediss://redis?ssl_ca_certs={ca_file}"
    assert settings(named, redis_ca_file=Path("/nowhere")).redis_client_url == named


def test_missing_redis_ca_file_is_refused() -> None:
    assert "PLATFORM_REDIS_CA_FILE): the file cannot be read" in problem_of("rediss://redis", redis_ca_file=Path("/no"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis+sentinel://:pa55word@h:26379/mymaster", "redis+sentinel:// is not supported: Redis Sentinel is not"),
        ("redis-sentinel://h:26379/mymaster", "redis-sentinel:// is not supported: Redis Sentinel"),
        ("sentinel://h:26379", "sentinel:// is not supported: Redis Sentinel"),
        ("redis://h1:26379,h2:26379/0", "several hosts are not supported"),
        ("rediss-cluster://h1", "set PLATFORM_REDIS_CLUSTER=true"),
        ("rediss+socket:///x.sock", "write unix:///path/to/socket"),
        ("https://h.example/?token=pa55word", "not a REST API"),
        ("tcp://10.0.0.1:6379", "tcp:// is not supported: write redis:// or rediss://"),
        ("redis://localhost/mymaster", "the path must be the database's number"),
        ("redis://localhost/0/1", "the path must be the database's number"),
        ("redis://localhost?db=pa55word", "db must be a whole number"),
        ("redis://localhost?protocol=three", "protocol must be a whole number"),
        ("rediss://localhost?ssl_check_hostname=off", "ssl_check_hostname must be true or false"),
        ("rediss://localhost?ssl_check_hostname=pa55word", "ssl_check_hostname must be true or false"),
        ("redis://localhost?decode_responses=true", "decode_responses is not supported here: remove it"),
        ("redis://localhost?DECODE_RESPONSES=True", "decode_responses is not supported here: remove it"),
        ("redis://localhost?encoding=latin-1", "encoding is not supported here"),
        ("redis://localhost?socket_keepalive=false", "socket_keepalive is not supported here"),
        ("redis://localhost?retry_on_error=ConnectionError", "retry_on_error is not supported here: remove it"),
        ("redis://localhost?master_name=m", "master_name is not supported here: Redis Sentinel"),
        ("redis://localhost?ssl=true", "ssl is not supported here: write rediss://"),
        ("redis://localhost?host=h", "host is not supported here"),
        ("redis://localhost?DB=1", "db must be in lower case"),
        ("rediss://gw:pa55word\uff20S3cret@h", "expected redis://:password@host:6379/0"),
        ("rediss://gw:pa55word\uff1aS3cret@h", "expected redis://:password@host:6379/0"),
        ("rediss://gw:pa55word\uff0fS3cret@h", "expected redis://:password@host:6379/0"),
        ("rediss://gw:pa55word?[@h", "expected redis://:password@host:6379/0"),
        ("rediss://gw:[pa55word]@h", "expected redis://:password@host:6379/0"),
        ("rediss://:pa55word@h..example", "expected redis://:password@host:6379/0"),
        ("REDIS://redis.example/0", "redis:// sends the password"),
        ("valkey://redis.example/0", "redis:// sends the password"),
    ],
)  # fmt: skip
def test_foreign_redis_url_is_refused_by_name(url: str, words: str) -> None:
    """Each form is refused at start, and none reaches redis-py, which ignores some and fails later on others."""
    assert words in problem_of(url)


@pytest.mark.parametrize(
    ("url", "used"),
    [
        ("valkey://localhost/1", "redis://localhost/1"),
        ("valkeys://h/1", "rediss://h/1"),
        ("REDISS://h", "rediss://h"),
        ("rediss://h?ssl=true&db=1", "rediss://h?db=1"),
        ("redis://localhost?decode_responses=False&socket_keepalive=True", "redis://localhost"),
        ("unix:///x.sock?db=3&username=u", "unix:///x.sock?db=3&username=u"),
    ],
)
def test_other_spelling_of_redis_url_is_translated(url: str, used: str) -> None:
    assert settings(url).redis_client_url == used


def test_cluster_with_a_database_number_is_refused() -> None:
    for url in ("redis://localhost/1", "redis://localhost?db=1"):
        assert "a Redis cluster has database 0 only" in problem_of(url, redis_cluster=True)
    assert settings("redis://localhost/0", redis_cluster=True).redis_cluster
