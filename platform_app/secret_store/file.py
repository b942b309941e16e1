"""Secrets from files with one secret each, as Docker and Kubernetes mount them."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from platform_app.config.secrets.files import read_secret_file
from platform_app.errors import SecretNotFound
from platform_app.secret_store.base import STORE_TIMEOUT_SECONDS, Secret, SecretReference, answer_within


class FileSecretStore:
    """Read `<directory>/<name>` without surrounding white space.

    Nothing is cached here, so the next look-up sees a change. Files are read on a thread, so a disk that hangs blocks
    only this store's look-ups.
    """

    scheme = "file"

    def __init__(self, directory: Path, timeout_seconds: float = STORE_TIMEOUT_SECONDS) -> None:
        self._directory = directory
        self._timeout = timeout_seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="secret-files")

    async def get(self, name: str) -> Secret:
        """Return the secret; see SecretStore.get. A file that exists but is unsafe raises SecretStoreUnavailable."""
        reference = SecretReference.parse(name)
        if reference.field is not None:
            raise SecretNotFound(f"'{name}': the store 'file' has one secret per file and no fields; leave out the #")
        path = self._directory / reference.path
        async with answer_within(self._timeout, self.scheme):
            loop = asyncio.get_running_loop()
            text = await loop.run_in_executor(self._thread, read_secret_file, self._directory, path)
        if not text:
            raise SecretNotFound(f"the file {path} is empty; write the secret into it")
        return Secret(name, text)

    async def aclose(self) -> None:
        """Stop the thread without waiting for a read that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)
