"""libpq's URLs: what each form means, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from platform_app.config import make_ssl_context, parse_database_url
from platform_app.config.connections.database_parameters import REFUSED
from tests.support.servers.network.tls.certificates import Authority

REMOTE = "postgresql://u:pa55word@db.example/p"
LOCAL = "postgresql://u:pa55word@localhost/p"


def problem_of(url: str, ca_file: Path | None = None) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is what the tests look at
        parse_database_url(url, ca_file)
    assert "pa55word" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    return Authority().write(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            "postgresql://u:p%40%2F%3A@h:6543/d%2Fb",
            {"user": "u", "password": "p@/:", "hosts": ("h",), "ports": (6543,), "database": "d/b"},
        ),
        ("postgres://h", {"user": None, "password": None, "hosts": ("h",), "ports": (5432,), "database": None}),
        ("postgresql://h1:5432,h2:5433/d", {"hosts": ("h1", "h2"), "ports": (5432, 5433)}),
        ("postgresql://h1,h2/d?port=7000", {"hosts": ("h1", "h2"), "ports": (7000, 7000)}),
        ("postgresql:///d?host=h1,h2&port=1,2", {"hosts": ("h1", "h2"), "ports": (1, 2)}),
        ("postgresql:///d?host=h1:99", {"hosts": ("h1",), "ports": (99,)}),
        ("postgresql://[::1]:6000/d", {"hosts": ("::1",), "ports": (6000,)}),
        ("postgresql://[2001:db8::1]/d", {"hosts": ("2001:db8::1",), "ports": (5432,)}),
        ("postgresql:///d?host=::1", {"hosts": ("::1",)}),
        ("postgresql://u@/d?host=/run/pg&port=6000", {"hosts": ("/run/pg",), "ports": (6000,), "user": "u"}),
        ("postgresql://%2Frun%2Fpg/d", {"hosts": ("/run/pg",)}),
        ("postgresql:///d", {"hosts": ("/run/postgresql", "/var/run/postgresql", "localhost")}),
        ("postgresql://h/?dbname=d&user=u&password=p%2Bq", {"database": "d", "user": "u", "password": "p+q"}),
        ("postgresql://h/d?password=a+b", {"password": "a+b"}),  # no space, as in libpq
        ("postgresql://h/d?connect_timeout=7", {"connect_seconds": 7.0}),
        ("postgresql://h/d?connect_timeout=0", {"connect_seconds": None}),
        ("postgresql://h/d?application_name=a%20b", {"application_name": "a b"}),
        ("postgresql://h/d?fallback_application_name=x", {"application_name": "x"}),
        ("postgresql://h/d?options=-c%20search_path%3Da", {"options": "-c search_path=a"}),
        ("postgresql://h/d?target_session_attrs=read-write", {"session_attributes": "read-write"}),
        ("postgresql://h/d?passfile=/run/pgpass", {"passfile": "/run/pgpass"}),
        ("postgresql://h/d?gssencmode=disable&channel_binding=prefer&sslsni=1&client_encoding=utf8", {"hosts": ("h",)}),
    ],
)
def test_database_url_forms_are_translated(url: str, expected: dict[str, Any]) -> None:
    target = parse_database_url(url)
    assert {name: getattr(target, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("url", "mode"),
    [
        (REMOTE, "verify-full"),
        ("postgresql://10.0.0.7/p", "verify-full"),
        ("postgresql://[2001:db8::1]/p", "verify-full"),
        ("postgresql://localhost,db.example/p", "verify-full"),
        ("postgresql://localhost.example/p", "verify-full"),
        ("postgresql://128.0.0.1/p", "verify-full"),
        (LOCAL, "prefer"),
        ("postgresql://127.9.9.9/p", "prefer"),
        ("postgresql://[::1]/p", "prefer"),
        ("postgresql://[::ffff:127.0.0.1]/p", "prefer"),
        ("postgresql://db.localhost/p", "prefer"),
        ("postgresql:///p?host=/run/pg", "prefer"),
        (f"{REMOTE}?ssl=true", "require"),
        (f"{REMOTE}?ssl=verify-full", "verify-full"),
        (f"{REMOTE}?sslrootcert=system", "verify-full"),
        (f"{LOCAL}?sslnegotiation=direct", "verify-full"),
        *((f"{REMOTE}?sslmode={mode}", mode) for mode in ("disable", "allow", "prefer", "require", "verify-full")),
    ],
)
def test_sslmode_defaults_to_verification_elsewhere(url: str, mode: str) -> None:
    assert parse_database_url(url).tls.mode == mode


def test_ca_file_means_verification_on_this_machine_too(ca_file: Path) -> None:
    assert parse_database_url(LOCAL, ca_file).tls.mode == "verify-full"
    assert parse_database_url(f"{LOCAL}?sslrootcert={ca_file}").tls.mode == "verify-full"
    assert parse_database_url(f"{REMOTE}?sslmode=verify-ca", ca_file).tls.verifies
    assert parse_database_url(f"{REMOTE}?sslmode=require", ca_file).tls.verifies
    assert parse_database_url(f"{REMOTE}?sslrootcert=system", ca_file).tls.root_file is None


@pytest.mark.parametrize(
    ("query", "insecure"),
    [
        ("", None),
        ("?sslmode=disable", "disable"),
        ("?sslmode=allow", "allow"),
        ("?sslmode=prefer", "prefer"),
        ("?sslmode=require", "require"),
        ("?sslmode=verify-full", None),
    ],
)
def test_insecure_mode_is_reported_for_remote_hosts(query: str, insecure: str | None) -> None:
    assert parse_database_url(REMOTE + query).insecure_mode == insecure
    assert parse_database_url(LOCAL + query).insecure_mode is None


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_unsupported_parameter_is_refused_by_name(name: str) -> None:
    assert f"{name} is not supported here: " in problem_of(f"{REMOTE}?{name}=pa55word")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("sslmode=pa55word", "sslmode must be one of disable, allow, "),
        ("ssl=pa55word", "sslmode must be one of"),
        ("sslmode=require&sslmode=disable", "sslmode is given more than once"),
        ("sslmode=require&ssl=true", "sslmode is given more than once"),
        ("sslmode=verify-ca", "sslmode=verify-ca needs sslrootcert"),
        ("sslmode=verify-ca&sslrootcert=system", "sslrootcert=system needs sslmode=verify-full"),
        ("sslmode=prefer&sslrootcert=/x.pem", "sslrootcert has no effect with this sslmode"),
        ("sslmode=disable&sslcert=/x.pem", "sslcert has no effect with this sslmode"),
        ("sslmode=disable&sslnegotiation=direct", "sslnegotiation=direct needs sslmode=require"),
        ("sslnegotiation=pa55word", "sslnegotiation must be postgres or direct"),
        ("sslrootcert=/nowhere/pa55word.pem", "sslrootcert (or PLATFORM_DATABASE_CA_FILE): the file cannot be read"),
        ("sslcert=/nowhere/pa55word.pem", "sslcert: the file cannot be read"),
        ("sslkey=/nowhere/pa55word.key", "sslkey and sslpassword need sslcert"),
        ("sslcrl=/nowhere/pa55word.crl", "sslcrl: the file cannot be read"),
        ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version must be one of"),
        ("ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2", "ssl_min_protocol_version is above"),
        ("connect_timeout=pa55word", "connect_timeout must be a whole number"),
        ("connect_timeout=99999999999", "connect_timeout must be a whole number"),
        ("connect_timeout=-1", "connect_timeout must be a whole number"),
        ("target_session_attrs=pa55word", "target_session_attrs must be one of any, "),
        ("pa55word=1", "parameter number 1 of the URL's query is not one of libpq's"),
        ("sslmode=require&pa55word", "parameter number 2 of the URL's query"),
        ("port=pa55word", "expected ports from 1 to 65535"),
        ("port=0", "expected ports from 1 to 65535"),
        ("port=1,2", "expected one port, or one for each of the 1 hosts"),
        ("host=a,,b", "expected hosts that are names"),
        ("host=@abstract", "expected hosts that are names"),
    ],
)
def test_unusable_parameter_is_refused_by_name(query: str, words: str) -> None:
    assert words in problem_of(f"{REMOTE}?{query}")


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:pa55word@h/d",
        "postgresql:u:pa55word@h",
        "host=h password=pa55word",
        "postgresql://u:pa@55word@h/d",
        "postgresql://u:12/pa55word@h:5432/d",
        "postgresql://u:pa?55word=x@h:5432/d",
        "postgresql://u:pa55word@h:port/d",
        "postgresql://u:pa55word@[::1/d",
        "postgresql://u:pa55word@h/d\n",
    ],
)
def test_malformed_database_url_is_refused_unshown(url: str) -> None:
    assert "55word" not in problem_of(url)


def test_every_problem_of_a_database_url_is_reported() -> None:
    problem = problem_of(f"{REMOTE}?sslmode=no&service=x&target_session_attrs=y&port=z")
    assert all(name in problem for name in ("sslmode", "service", "target_session_attrs", "ports"))


def test_file_without_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate, pa55word")
    problem = problem_of(f"{REMOTE}?sslrootcert={tmp_path}/ca.pem")
    assert "OpenSSL does not accept the files (NO_CERTIFICATE_OR_CRL_FOUND)" in problem


def test_ssl_context_matches_the_mode(ca_file: Path) -> None:
    for query, checks_host, verifies in (
        ("sslmode=require", False, False),
        (f"sslmode=verify-ca&sslrootcert={ca_file}", False, True),
        (f"sslmode=verify-full&sslrootcert={ca_file}", True, True),
    ):
        context = make_ssl_context(parse_database_url(f"{REMOTE}?{query}").tls)
        assert (context.check_hostname, context.verify_mode.name == "CERT_REQUIRED") == (checks_host, verifies)


def test_database_target_does_not_show_the_password() -> None:
    target = parse_database_url(f"{REMOTE}?application_name=a")
    assert "pa55word" not in repr(target)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://h/db%00x", "database must not contain %00"),
        ("postgresql://u%00:pa55word@h/d", "user must not contain %00"),
        ("postgresql://u:pa55word%00@h/d", "password must not contain %00"),
        ("postgresql://u:pa55word%ff@h/d", "password must be percent-encoded UTF-8"),
        ("postgresql:///d?host=a:5432,b:5433", "write host=a,b and port=5432,5433"),
        ("postgresql:///d?host=a,b:5433", "write host=a,b and port=5432,5433"),
        ("postgresql:///d?host=a:b:c", "expected hosts"),
        ("postgresql://[::::]/d", "expected hosts"),
    ],
)
def test_database_url_that_would_fail_later_is_refused(url: str, words: str) -> None:
    assert words in problem_of(url)


def test_replacement_character_in_a_password_is_kept() -> None:
    assert parse_database_url("postgresql://u:a%EF%BF%BD@h/d").password == "a\ufffd"
