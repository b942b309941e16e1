"""The Vault store against a real OpenBao: logins, leases, namespaces, and tokens that die."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from platform_app.config import Settings, load_settings
from platform_app.errors import ConfigurationError, SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.configured import configured_store
from platform_app.secret_store.vault import token as vault_token
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import (
    AppRoleLogin,
    Credential,
    TokenLogin,
    VaultLogin,
)
from platform_app.secret_store.vault.store import VaultSecretStore
from platform_app.secret_store.vault.token import VaultToken
from tests.support.servers.openbao import ROOT_TOKEN, OpenBao
from tests.support.timing.responsive_time import responsive_time

SECRET_ID = "PLATFORM_VAULT_SECRET_ID"


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """Yield a server with one secret and a policy that may read it."""
    with OpenBao(tmp_path_factory.mktemp("openbao")) as running:
        running.put("app/KEY", "v1")
        running.policy("app", "secret/data/app/*")
        yield running


@pytest.fixture(scope="module")
def tls_bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBao]:
    """An OpenBao with a certificate of a private authority."""
    with OpenBao(tmp_path_factory.mktemp("openbao-tls"), tls=True) as running:
        running.put("app/KEY", "over TLS")
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the pause between logins."""
    monkeypatch.setattr(vault_token, "LOGIN_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(vault_token, "RETRY_SECONDS", 0.05)


@asynccontextmanager
async def opened(
    bao: OpenBao, login: VaultLogin, namespace: str | None = None, prefix: str = "app"
) -> AsyncIterator[VaultSecretStore]:
    http = VaultHttp(bao.address, namespace, ssl.create_default_context())
    store = VaultSecretStore(http, login, "secret", prefix, timeout_seconds=60)
    try:
        yield store
    finally:
        await store.aclose()


def with_token(token: str) -> TokenLogin:
    return TokenLogin(Credential("PLATFORM_VAULT_TOKEN", token))


def with_approle(bao: OpenBao, role: str, **fields: object) -> AppRoleLogin:
    role_id, secret_id = bao.approle(role, token_policies=["app"], **fields)
    return AppRoleLogin("approle", role_id, Credential(SECRET_ID, secret_id))


def lease(store: VaultSecretStore) -> Any:
    return store._token._lease


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


class TestPaths:
    async def test_vault_named_field_is_read(self, bao: OpenBao) -> None:
        bao.put("app/pair", "the key", field="api-key")
        async with opened(bao, with_token(ROOT_TOKEN)) as store:
            assert (await store.get("pair#api-key")).value == "the key"
            with pytest.raises(SecretNotFound, match="no text in the field 'value' at secret/data/app/pair"):
                await store.get("pair")

    @pytest.mark.parametrize("data", [{"value": 5}, {"value": None}, {"value": ["x"]}, {}])
    async def test_vault_value_that_is_not_text_is_refused(self, bao: OpenBao, data: dict[str, object]) -> None:
        bao.call("POST", "secret/data/app/odd", {"data": data})
        async with opened(bao, with_token(ROOT_TOKEN)) as store:
            with pytest.raises(SecretNotFound):
                await store.get("odd")

    async def test_vault_deleted_version_is_missing(self, bao: OpenBao) -> None:
        bao.put("app/gone", "x")
        bao.call("DELETE", "secret/data/app/gone")
        async with opened(bao, with_token(ROOT_TOKEN)) as store:
            with pytest.raises(SecretNotFound, match="nothing at secret/data/app/gone"):
                await store.get("gone")

    @pytest.mark.parametrize("mount", ["none", "version-one"])
    async def test_vault_wrong_mount_names_its_setting(self, bao: OpenBao, mount: str) -> None:
        if mount != "none":
            bao.call("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "1"}})
            bao.call("POST", f"{mount}/data/KEY", {"value": "x"})
        store = VaultSecretStore(
            VaultHttp(bao.address, None, ssl.create_default_context()), with_token(ROOT_TOKEN), mount
        )
        with pytest.raises(SecretStoreUnavailable, match="PLATFORM_VAULT_MOUNT"):
            await store.get("KEY")
        await store.aclose()

    async def test_vault_reads_the_configured_namespace(self, bao: OpenBao) -> None:
        bao.call("POST", "sys/namespaces/team")
        bao.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace="team")
        await asyncio.sleep(0.2)  # a new key-value store upgrades itself for a moment
        bao.put("app/KEY", "of the team", namespace="team")
        async with opened(bao, with_token(ROOT_TOKEN), namespace="team") as store:
            assert (await store.get("KEY")).value == "of the team"
        async with opened(bao, with_token(ROOT_TOKEN)) as store:
            assert (await store.get("KEY")).value == "v1"
        async with opened(bao, with_token(ROOT_TOKEN), namespace="nobody") as store:
            with pytest.raises(SecretStoreUnavailable):
                await store.get("KEY")


class TestPermissions:
    async def test_vault_forbidden_path_is_named_without_new_login(self, bao: OpenBao) -> None:
        bao.put("other/KEY", "x")
        async with opened(bao, with_approle(bao, "narrow", token_ttl="60s"), prefix="other") as store:
            for _ in range(3):
                with pytest.raises(SecretStoreUnavailable, match=r"does not let us read secret/data/other/KEY \(403\)"):
                    await store.get("KEY")
            logins = bao.call("LIST", "auth/token/accessors")["data"]["keys"]
            await store_again(store)
            assert bao.call("LIST", "auth/token/accessors")["data"]["keys"] == logins

    async def test_vault_invalid_token_is_named_but_not_shown(self, bao: OpenBao) -> None:
        async with opened(bao, with_token("s.bad-token-canary")) as store:
            with pytest.raises(SecretStoreUnavailable, match="PLATFORM_VAULT_TOKEN") as caught:
                await store.get("KEY")
            assert "canary" not in str(caught.value)
            assert "canary" not in repr(store._token._login)

    async def test_vault_invalid_secret_id_is_named_but_not_shown(self, bao: OpenBao) -> None:
        role_id, _ = bao.approle("bad", token_policies=["app"])
        login = AppRoleLogin("approle", role_id, Credential(SECRET_ID, "secret-id-canary"))
        async with opened(bao, login) as store:
            with pytest.raises(SecretStoreUnavailable, match=SECRET_ID) as caught:
                await store.get("KEY")
        for shown in (str(caught.value), repr(login)):
            assert "canary" not in shown
            assert role_id not in shown

    async def test_vault_concurrent_look_ups_share_a_refused_login(self, bao: OpenBao) -> None:
        attempts = []

        class Counting(TokenLogin):
            async def log_in(self, http: VaultHttp) -> Any:
                attempts.append(1)
                return await TokenLogin.log_in(self, http)

        async with opened(bao, Counting(Credential("T", "bad"))) as store:
            outcomes = await asyncio.gather(*(store.get(f"KEY{n}") for n in range(10)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {SecretStoreUnavailable}
        assert len(attempts) == 1


async def store_again(store: VaultSecretStore) -> None:
    with pytest.raises(SecretStoreUnavailable):
        await store.get("KEY")


class TestTls:
    def settings(self, bao: OpenBao, ca_file: Path | None) -> Settings:
        return load_settings(
            database_url="postgresql://a:b@localhost/c",
            redis_url="redis://localhost",
            secret_provider="vault",
            vault_addr=bao.address,
            vault_token=ROOT_TOKEN,
            vault_path_prefix="app/",
            vault_ca_file=ca_file,
        )

    async def test_vault_ca_file_is_trusted(self, tls_bao: OpenBao) -> None:
        store = configured_store(self.settings(tls_bao, tls_bao.ca_file), {})
        assert (await store.get("KEY")).value == "over TLS"
        await store.aclose()

    async def test_vault_unknown_ca_is_refused(self, tls_bao: OpenBao) -> None:
        store = configured_store(self.settings(tls_bao, None), {})
        with pytest.raises(SecretStoreUnavailable, match="does not respond"):
            await store.get("KEY")
        await store.aclose()

    @pytest.mark.parametrize("content", [None, "no certificate"])
    async def test_vault_unusable_ca_file_is_named(self, tls_bao: OpenBao, tmp_path: Path, content: str | None) -> None:
        path = tmp_path / "ca.pem"
        if content is not None:
            path.write_text(content)
        with pytest.raises(ConfigurationError) as caught:
            configured_store(self.settings(tls_bao, path), {})
        assert [problem.partition(":")[0] for problem in caught.value.problems] == [f"PLATFORM_VAULT_CA_FILE ({path})"]


class TestFiles:
    async def test_vault_revoked_token_is_read_from_its_file_again(
        self, bao: OpenBao, tmp_path: Path, quick: None
    ) -> None:
        path = tmp_path / "token"
        first = bao.token("app", "default")
        path.write_text(first + "\n")
        login = TokenLogin(Credential("PLATFORM_VAULT_TOKEN_FILE", file=path))
        async with opened(bao, login) as store:
            assert (await store.get("KEY")).value == "v1"
            path.write_text(bao.token("app", "default"))
            bao.call("POST", "auth/token/revoke", {"token": first})
            assert (await store.get("KEY")).value == "v1"

    @pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
    async def test_vault_unusable_token_file_is_named(
        self, bao: OpenBao, tmp_path: Path, content: bytes | None
    ) -> None:
        path = tmp_path / "token"
        if content is not None:
            path.write_bytes(content)
        async with opened(bao, TokenLogin(Credential("PLATFORM_VAULT_TOKEN_FILE", file=path))) as store:
            with pytest.raises(SecretStoreUnavailable, match="PLATFORM_VAULT_TOKEN_FILE") as caught:
                await store.get("KEY")
        assert str(path) in str(caught.value)


class TestLeases:
    async def test_vault_token_is_renewed_before_it_expires(self, bao: OpenBao) -> None:
        async with opened(bao, with_approle(bao, "renewed", token_ttl="6s", token_max_ttl="1h")) as store:
            await store.get("KEY")
            first = lease(store)
            await until(lambda: lease(store) is not first)
            assert lease(store).token == first.token
            assert bao.call("POST", "auth/token/lookup", {"token": first.token})["data"]["ttl"] > 2, (
                "it was renewed after 4 s"
            )
            assert (await store.get("KEY")).value == "v1"

    async def test_vault_token_is_replaced_near_its_maximum_ttl(self, bao: OpenBao) -> None:
        async with opened(bao, with_approle(bao, "short", token_ttl="2s", token_max_ttl="3s")) as store:
            await store.get("KEY")
            token = lease(store).token
            await until(lambda: lease(store).token != token)
            assert (await store.get("KEY")).value == "v1"

    async def test_vault_token_that_is_not_renewable_is_replaced(self, bao: OpenBao) -> None:
        async with opened(bao, with_approle(bao, "batch", token_ttl="3s", token_type="batch")) as store:
            await store.get("KEY")
            token = lease(store).token
            assert not lease(store).renewable
            await until(lambda: lease(store).token != token)
            await asyncio.sleep(1.5)
            assert (await store.get("KEY")).value == "v1"

    async def test_vault_revoked_token_is_replaced_during_the_look_up(self, bao: OpenBao, quick: None) -> None:
        async with opened(bao, with_approle(bao, "revoked", token_ttl="1h")) as store:
            await store.get("KEY")
            token = lease(store).token
            bao.call("POST", "auth/token/revoke", {"token": token})
            found = await asyncio.gather(*(store.get("KEY") for _ in range(10)))
            assert {secret.value for secret in found} == {"v1"}
            assert lease(store).token != token

    async def test_vault_logins_after_revoked_tokens_are_spaced(self, bao: OpenBao) -> None:
        async with opened(bao, with_approle(bao, "pause", token_ttl="1h")) as store:
            await store.get("KEY")
            bao.call("POST", "auth/token/revoke", {"token": lease(store).token})
            with pytest.raises(SecretStoreUnavailable, match="the next login is tried within 5 s"):
                await store.get("KEY")

    async def test_vault_closing_revokes_a_token_from_login(self, bao: OpenBao) -> None:
        async with opened(bao, with_approle(bao, "closing", token_ttl="1h")) as store:
            await store.get("KEY")
            token = lease(store).token
            bao.call("POST", "auth/token/lookup", {"token": token})
        with pytest.raises(AssertionError, match=r"bad token|invalid"):
            bao.call("POST", "auth/token/lookup", {"token": token})

    async def test_vault_closing_keeps_a_configured_token(self, bao: OpenBao) -> None:
        token = bao.token("app", "default")
        async with opened(bao, with_token(token)) as store:
            await store.get("KEY")
        bao.call("POST", "auth/token/lookup", {"token": token})

    async def test_vault_token_renewal_resumes_after_an_outage(self, bao: OpenBao, quick: None, tmp_path: Path) -> None:
        with OpenBao(tmp_path) as own:
            role: dict[str, Any] = {"token_policies": ["app"], "token_ttl": "1s", "token_max_ttl": "1h"}
            own.put("app/KEY", "v1")
            own.policy("app", "secret/data/app/*")
            role_id, secret_id = own.approle(**role)
            login = AppRoleLogin("approle", role_id, Credential(SECRET_ID, secret_id))
            async with opened(own, login) as store:
                await store.get("KEY")
                own.stop()
                await asyncio.sleep(1.5)
                with pytest.raises(SecretStoreUnavailable, match="does not respond"):
                    await store.get("KEY")
                own.start()
                own.put("app/KEY", "v2")
                own.policy("app", "secret/data/app/*")
                own.approle(**role)
                own.call("POST", "auth/approle/role/platform/role-id", {"role_id": role_id})
                own.call("POST", "auth/approle/role/platform/custom-secret-id", {"secret_id": secret_id})
                async with asyncio.timeout(300):
                    while True:
                        with contextlib.suppress(SecretStoreUnavailable):
                            assert (await store.get("KEY")).value == "v2"
                            break
                        await asyncio.sleep(0.1)


class TestBehindTheCache:
    async def test_vault_changed_secret_is_read_after_a_refusal(
        self, bao: OpenBao, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("platform_app.secret_store.cache.FETCH_TIMEOUT_SECONDS", 60.0)  # for a busy machine
        bao.put("app/ROTATED", "old")
        async with opened(bao, with_approle(bao, "cache", token_ttl="1h")) as store:
            cache = CachedSecretStore(store, ttl_seconds=300)
            assert (await cache.get("ROTATED")).value == "old"
            bao.put("app/ROTATED", "new")
            assert (await cache.get("ROTATED")).value == "old"
            assert (await cache.refresh("ROTATED", "old")).value == "new"
            assert (await cache.get("ROTATED")).value == "new"

    async def test_vault_frozen_server_delays_no_cached_look_up(self, bao: OpenBao, tmp_path: Path) -> None:
        with OpenBao(tmp_path) as own:
            own.put("app/KEY", "v1")
            async with opened(own, with_token(ROOT_TOKEN)) as store:
                cache = CachedSecretStore(store, ttl_seconds=1)
                await cache.get("KEY")
                refreshing = asyncio.create_task(cache.run())
                own.pause()
                deadline = asyncio.get_running_loop().time() + 1.6
                slowest = 0.0
                async with responsive_time() as spent:
                    while asyncio.get_running_loop().time() < deadline:
                        before = spent.seconds
                        assert (await cache.get("KEY")).value == "v1"
                        slowest = max(slowest, spent.seconds - before)
                        await asyncio.sleep(0.02)
                own.resume()
                own.put("app/KEY", "v2")
                await until(lambda: cache._known(cache._entries["KEY"]).value == "v2")
                assert slowest < 0.1
                refreshing.cancel()
                await asyncio.gather(refreshing, return_exceptions=True)


async def test_vault_concurrent_look_ups_share_one_login(bao: OpenBao) -> None:
    http = VaultHttp(bao.address, None, ssl.create_default_context())
    token = VaultToken(http, with_approle(bao, "ten", token_ttl="1h"))
    assert len(set(await asyncio.gather(*(token.current() for _ in range(10))))) == 1
    await token.aclose()
    await http.aclose()
