"""The Vault store's token: obtained by logging in, renewed in the background, replaced when it expires."""

import asyncio
import contextlib
import time
from dataclasses import replace

from platform_app.errors import SecretError, SecretStoreUnavailable
from platform_app.observability.logging import get_logger
from platform_app.secret_store.base import STORE_TIMEOUT_SECONDS, answer_within
from platform_app.secret_store.vault.http import VaultHttp
from platform_app.secret_store.vault.login import Lease, VaultLogin

RENEW_AT = 2 / 3
"""The share of a token's lifetime after which it is renewed."""
LOGIN_PAUSE_SECONDS = 5.0
"""The shortest time between logins caused by refused tokens, because each login creates a token in Vault."""
RETRY_SECONDS = 1.0
"""The shortest time between a failed login or renewal and the next one, for all waiting look-ups together."""
_MINIMUM_SLEEP_SECONDS = 0.5
_REVOKE_SECONDS = 1.0

_log = get_logger("vault")


class VaultToken:
    """One token at a time. Renewed as long as Vault gives it the life that it had at first; then, and when renewal is
    refused, a new login takes its place before it ends."""

    def __init__(self, http: VaultHttp, login: VaultLogin) -> None:
        self._http = http
        self._login = login
        self._lease: Lease | None = None
        self._failure: SecretStoreUnavailable | None = None
        self._login_at = float("-inf")
        self._lock = asyncio.Lock()
        self._replaced = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    async def current(self) -> str:
        """Return the token. The first call logs in. Raises SecretStoreUnavailable."""
        lease = self._lease
        if lease is not None:
            return lease.token
        async with self._lock:
            lease = self._lease  # another look-up may have logged in while this one waited
            if lease is not None:
                return lease.token
            if self._failure is not None and time.monotonic() - self._login_at < RETRY_SECONDS:
                raise SecretStoreUnavailable(*self._failure.args)
            return (await self._log_in()).token

    async def replacement(self, refused: str) -> str | None:
        """Another token after Vault refused this one; None where the token is good and just may not do what it was
        asked to.

        Raises:
            SecretStoreUnavailable: no other token can be had now.
        """
        async with self._lock:
            if self._lease is not None and self._lease.token != refused:
                return self._lease.token
            if await self._is_good(refused):
                return None
            if time.monotonic() - self._login_at < LOGIN_PAUSE_SECONDS:
                raise SecretStoreUnavailable(
                    f"Vault at {self._http.address} refuses the token that it has just issued; the next login is "
                    f"tried within {LOGIN_PAUSE_SECONDS:g} s"
                )
            _log.warning("vault_token_dead", method=self._login.method)
            return (await self._log_in()).token

    async def aclose(self) -> None:
        """Stop renewing, and revoke a token that a login created, so that it does not outlive the process for hours."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._lease is not None and self._lease.ours:
            with contextlib.suppress(SecretStoreUnavailable):
                async with answer_within(_REVOKE_SECONDS, "vault"):
                    await self._http.send("POST", "auth/token/revoke-self", self._lease.token)

    async def _is_good(self, token: str) -> bool:
        status, _ = await self._http.send("GET", "auth/token/lookup-self", token)
        return status == 200

    async def _log_in(self) -> Lease:
        self._login_at = time.monotonic()
        try:
            lease = await self._login.log_in(self._http)
        except SecretStoreUnavailable as error:
            self._failure = error
            raise
        self._lease, self._failure = lease, None
        self._replaced.set()
        _log.info("vault_logged_in", method=self._login.method, lease_seconds=lease.seconds, renewable=lease.renewable)
        if lease.seconds and not lease.renewable and not lease.ours:
            _log.warning("vault_token_will_end", seconds=lease.seconds)
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        return lease

    async def _keep(self) -> None:
        """Renew or replace the token before it expires, until the process ends."""
        token, full, failed = "", 0.0, False
        while True:
            lease = self._lease
            if lease is not None and lease.token != token:
                token, full = lease.token, lease.seconds
            await self._until_due(lease, failed)
            if lease is None or self._lease is not lease:
                continue
            try:
                async with self._lock, answer_within(STORE_TIMEOUT_SECONDS, "vault"):
                    await self._prolong(lease, full)
            except SecretError as error:
                if not failed:
                    _log.warning("vault_token_not_renewed", method=self._login.method, why=str(error))
                failed = True
            else:
                failed = False

    async def _until_due(self, lease: Lease | None, failed: bool) -> None:
        """Sleep until the lease must be renewed, or another lease replaces it."""
        delay = lease.seconds * RENEW_AT if lease is not None and lease.seconds else None  # None: it does not expire
        if delay is not None:
            delay = RETRY_SECONDS if failed else max(_MINIMUM_SLEEP_SECONDS, delay)
        self._replaced.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._replaced.wait()

    async def _prolong(self, lease: Lease, full: float) -> None:
        # Near its maximum lifetime Vault renews a token for shorter and shorter times.
        if lease.renewable and lease.seconds >= full / 2:
            status, answer = await self._http.send("POST", "auth/token/renew-self", lease.token)
            granted = answer.get("auth")
            if status == 200 and isinstance(granted, dict):
                seconds, renewable = float(granted.get("lease_duration") or 0), bool(granted.get("renewable"))
                self._lease = replace(lease, seconds=seconds, renewable=renewable)
                return
        await self._log_in()
