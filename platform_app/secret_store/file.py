"""Secrets from files with one secret each, as Docker and Kubernetes mount them."""

import asyncio
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.base import STORE_TIMEOUT_SECONDS, Secret, SecretReference, answer_within

MAX_BYTES = 64 * 1024
_OTHERS = stat.S_IROTH | stat.S_IWOTH


class FileSecretStore:
    """Read `<directory>/<name>` without surrounding white space.

    Symbolic links are followed if they stay inside the directory: Kubernetes swaps a link (`..data`) to change all
    files of a volume at once. A file that every user of the machine may read or write is refused. Nothing is cached
    here, so the next look-up sees a change. Files are read on a thread, so a disk that hangs blocks only this store's
    look-ups.
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
            text = await asyncio.get_running_loop().run_in_executor(self._thread, self._read, path)
        if not text:
            raise SecretNotFound(f"the file {path} is empty; write the secret into it")
        return Secret(name, text)

    async def aclose(self) -> None:
        """Stop the thread without waiting for a read that hangs."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _read(self, path: Path) -> str:
        try:
            try:
                content = self._open_and_read(path)
            except FileNotFoundError:
                content = self._open_and_read(path)  # the link was swapped between the check and the read
        except FileNotFoundError:
            if not self._directory.is_dir():
                raise SecretStoreUnavailable(f"there is no directory {self._directory}; mount it") from None
            raise SecretNotFound(f"there is no file {path}; mount or write it") from None
        except OSError as error:
            raise SecretStoreUnavailable(f"the file {path} cannot be read: {error.strerror}") from None
        try:
            return content.decode().strip()
        except UnicodeDecodeError:
            raise SecretStoreUnavailable(f"the file {path} is not UTF-8 text") from None

    def _open_and_read(self, path: Path) -> bytes:
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(os.path.realpath(self._directory)):
            raise SecretStoreUnavailable(
                f"the file {path} is a link to a place outside {self._directory}; put the file itself there"
            )
        # Non-blocking, because a FIFO would hang the thread. Without links, because all were followed above.
        descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            _refuse_unsafe(path, os.fstat(descriptor))
            content = os.read(descriptor, MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(content) > MAX_BYTES:
            raise SecretStoreUnavailable(f"the file {path} has more than {MAX_BYTES} bytes, too many for a secret")
        return content


def _refuse_unsafe(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise SecretStoreUnavailable(f"{path} is not a regular file")
    if status.st_mode & _OTHERS:
        raise SecretStoreUnavailable(
            f"the file {path} can be read or written by every user of this machine "
            f"(mode {stat.S_IMODE(status.st_mode):04o}); run: chmod o-rwx {path} (in Kubernetes: defaultMode: 0440)"
        )
