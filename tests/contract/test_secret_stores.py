"""What every secret store promises, asked of all four: the environment, files, a real OpenBao, and moto's AWS."""

import asyncio
import itertools
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from aiobotocore.session import get_session

from platform_app.errors import SecretError, SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.aws import AwsSecretStore
from platform_app.secret_store.base import Secret, SecretStore
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.env import EnvSecretStore
from platform_app.secret_store.file import FileSecretStore
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import Credential, TokenLogin
from platform_app.secret_store.vault.store import VaultSecretStore
from tests.support.servers.aws import CREDENTIALS, REGION, SecretsManager
from tests.support.servers.openbao import ROOT_TOKEN, OpenBao
from tests.support.timing.responsive_time import responsive_time

VALUE = "sk-canary-0f8e6d4c2b1a3957"
TIMEOUT = 30.0
"""The first look-up of AWS reads the SDK's models, which takes seconds on a busy machine."""
SESSION = get_session()
"""Remembers what it reads from the package's many files."""
_numbers = itertools.count(1)


class Backend(Protocol):
    """The place where an operator writes the secrets of one store."""

    down_is: type[SecretError]
    """The error that a look-up raises while the store is down."""

    def put(self, name: str, value: str) -> None: ...
    def delete(self, name: str) -> None: ...
    def down(self) -> None: ...
    def up(self) -> None: ...
    def store(self) -> SecretStore: ...


class EnvBackend:
    """A dictionary; it cannot be down, but it can be empty."""

    down_is: type[SecretError] = SecretNotFound

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        self._away: dict[str, str] = {}

    def put(self, name: str, value: str) -> None:
        self._variables[name] = value

    def delete(self, name: str) -> None:
        del self._variables[name]

    def down(self) -> None:
        self._away = dict(self._variables)
        self._variables.clear()

    def up(self) -> None:
        self._variables.update(self._away)

    def store(self) -> SecretStore:
        return EnvSecretStore(self._variables)


class FileBackend:
    """A directory, which is unmounted while the store is down."""

    down_is: type[SecretError] = SecretStoreUnavailable

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "secrets"
        self._directory.mkdir()
        (directory / "outside").write_text(VALUE)
        (directory / "outside").chmod(0o600)

    def put(self, name: str, value: str) -> None:
        path = self._directory / name
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(value)

    def delete(self, name: str) -> None:
        (self._directory / name).unlink()

    def down(self) -> None:
        self._directory.rename(self._directory.with_name("unmounted"))

    def up(self) -> None:
        self._directory.with_name("unmounted").rename(self._directory)

    def store(self) -> SecretStore:
        return FileSecretStore(self._directory, TIMEOUT)


class VaultBackend:
    """OpenBao with its storage in memory, so the secrets are written again after a restart."""

    down_is: type[SecretError] = SecretStoreUnavailable

    def __init__(self, bao: OpenBao) -> None:
        self._bao = bao
        self._prefix = f"contract/{next(_numbers)}"
        self._written: dict[str, str] = {}
        bao.put(f"{self._prefix.rpartition('/')[0]}/outside", VALUE)

    def put(self, name: str, value: str) -> None:
        self._written[name] = value
        self._bao.put(f"{self._prefix}/{name}", value)

    def delete(self, name: str) -> None:
        self._bao.delete(f"{self._prefix}/{name}")

    def down(self) -> None:
        self._bao.stop()

    def up(self) -> None:
        self._bao.start()
        for name, value in self._written.items():
            self.put(name, value)

    def store(self) -> SecretStore:
        return vault_store(self._bao.address, self._prefix)


class AwsBackend:
    """AWS Secrets Manager, as the library moto implements it."""

    down_is: type[SecretError] = SecretStoreUnavailable

    def __init__(self, aws: SecretsManager) -> None:
        self._aws = aws
        self._prefix = f"contract/{next(_numbers)}/"
        aws.put("contract/outside", VALUE)

    def put(self, name: str, value: str) -> None:
        self._aws.put(f"{self._prefix}{name}", value)

    def delete(self, name: str) -> None:
        self._aws.delete(f"{self._prefix}{name}")

    def down(self) -> None:
        self._aws.stop()

    def up(self) -> None:
        self._aws.start()

    def store(self) -> SecretStore:
        return aws_store(self._aws.address, self._prefix)


def vault_store(address: str, prefix: str = "p", timeout: float = TIMEOUT) -> SecretStore:
    http = VaultHttp(address, None, ssl.create_default_context())
    return VaultSecretStore(http, TokenLogin(Credential("T", ROOT_TOKEN)), "secret", prefix, timeout)


def aws_store(address: str, prefix: str = "p/", timeout: float = TIMEOUT) -> SecretStore:
    return AwsSecretStore(SESSION, REGION, prefix, address, timeout)


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    with OpenBao(tmp_path_factory.mktemp("openbao")) as running:
        yield running


@pytest.fixture(scope="module")
def aws() -> Iterator[SecretsManager]:
    with SecretsManager() as running:
        yield running


@pytest.fixture(params=["env", "file", "vault", "aws"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backend:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    match request.param:
        case "env":
            return EnvBackend()
        case "file":
            return FileBackend(tmp_path)
        case "vault":
            return VaultBackend(request.getfixturevalue("bao"))
        case _:
            return AwsBackend(request.getfixturevalue("aws"))


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[SecretStore]:
    made = backend.store()
    yield made
    await made.aclose()


async def refused(store: SecretStore, name: str, kind: type[SecretError]) -> str:
    """Look up a name that is refused, and return the message. The error has this type and contains no secret."""
    with pytest.raises(SecretError) as caught:
        await store.get(name)
    assert type(caught.value) is kind, caught.value
    chain = [caught.value, caught.value.__cause__] + (
        [] if caught.value.__suppress_context__ else [caught.value.__context__]
    )
    shown = " ".join(f"{error!r} {error}" for error in chain)
    for secret in (VALUE, ROOT_TOKEN, *CREDENTIALS.values()):
        if secret != "true":
            assert secret not in shown
    return str(caught.value)


async def test_store_strips_white_space_around_a_secret(backend: Backend, store: SecretStore) -> None:
    backend.put("OPENAI_API_KEY", f" {VALUE}\n")
    backend.put("OTHER-key.v2", "other")
    assert await store.get("OPENAI_API_KEY") == Secret("OPENAI_API_KEY", VALUE)
    assert (await store.get("OTHER-key.v2")).value == "other"


async def test_store_names_a_missing_secret(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", VALUE)
    assert "NONE" in await refused(store, "NONE", SecretNotFound)


@pytest.mark.parametrize("empty", ["  \n", "\t"])
async def test_store_empty_secret_is_missing(backend: Backend, store: SecretStore, empty: str) -> None:
    backend.put("KEY", empty)
    assert "KEY" in await refused(store, "KEY", SecretNotFound)


async def test_store_next_look_up_returns_a_rotated_secret(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", "old")
    assert (await store.get("KEY")).value == "old"
    backend.put("KEY", "new")
    assert (await store.get("KEY")).value == "new"


async def test_store_removed_secret_is_missing(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", VALUE)
    await store.get("KEY")
    backend.delete("KEY")
    await refused(store, "KEY", SecretNotFound)


ELSEWHERE = [
    "../outside", "a/../../outside", "a/..", "/etc/passwd", "%2e%2e/outside", "..%2foutside", "a%00", "a//b", "a/./b",
    "a/", ".", "", "a b", "a\\b", "a?version=1", "a\n", "~/x", "A" * 300, "a#", "a#b#c", "a#../b",
]  # fmt: skip


async def test_secret_name_outside_its_place_is_refused(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", VALUE)
    for name in ELSEWHERE:
        assert "is not a name of a secret" in await refused(store, name, SecretNotFound), name


async def test_secret_name_may_contain_a_slash(backend: Backend, store: SecretStore) -> None:
    backend.put("team_a/openai", VALUE)
    assert (await store.get("team_a/openai")).value == VALUE


async def test_store_recovers_after_an_outage(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", VALUE)
    await store.get("KEY")
    backend.down()
    try:
        async with responsive_time() as spent:
            message = await refused(store, "KEY", backend.down_is)
        assert spent.seconds < TIMEOUT + 1
        assert message
    finally:
        backend.up()
    assert (await store.get("KEY")).value == VALUE


async def test_cache_serves_while_store_is_down(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_app.secret_store.cache.FETCH_TIMEOUT_SECONDS", TIMEOUT)  # for a busy machine
    cache = CachedSecretStore(backend.store(), ttl_seconds=30)
    backend.put("KEY", VALUE)
    await cache.get("KEY")
    backend.down()
    try:
        assert (await cache.refresh("KEY", VALUE)).value == VALUE
    finally:
        backend.up()
        await cache.aclose()


async def test_store_serves_concurrent_look_ups(backend: Backend, store: SecretStore) -> None:
    names = [f"KEY{number}" for number in range(10)]
    for name in names:
        backend.put(name, f"value of {name}")
    found = await asyncio.gather(*(store.get(name) for name in names))
    assert [secret.value for secret in found] == [f"value of {name}" for name in names]


async def test_store_repr_contains_no_secret(backend: Backend, store: SecretStore) -> None:
    backend.put("KEY", VALUE)
    secret = await store.get("KEY")
    shown = repr(secret) + str(secret) + repr(store)
    for hidden in (VALUE, ROOT_TOKEN):
        assert hidden not in shown


async def test_store_can_be_closed_before_and_after_a_look_up(backend: Backend) -> None:
    await backend.store().aclose()
    backend.put("KEY", VALUE)
    used = backend.store()
    await used.get("KEY")
    await used.aclose()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Yield an address that accepts connections and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def slow_file(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretStore:
    def realpath(path: Path) -> str:
        time.sleep(0.6)
        return str(path)

    monkeypatch.setattr("platform_app.config.secrets.files.os.path.realpath", realpath)
    return FileSecretStore(tmp_path, 0.2)


SLOW: dict[str, Callable[[str, Path, pytest.MonkeyPatch], SecretStore]] = {
    "file": slow_file,
    "vault": lambda address, *_: vault_store(address, timeout=0.2),
    "aws": lambda address, *_: aws_store(address, timeout=0.2),
}


@pytest.mark.parametrize("scheme", sorted(SLOW))
async def test_slow_store_times_out(
    scheme: str, black_hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    store = SLOW[scheme](black_hole, tmp_path, monkeypatch)
    if scheme == "aws":  # making the client reads files for longer than the deadline of this test
        with pytest.raises(SecretStoreUnavailable):
            await store.get("KEY")
    async with responsive_time() as spent:
        message = await refused(store, "KEY", SecretStoreUnavailable)
    assert spent.seconds < 0.5
    assert message == f"the secret store '{scheme}' did not respond within 0.2 s"
    await store.aclose()
