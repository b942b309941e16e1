"""Secrets from files with one secret each, as Docker and Kubernetes mount them.

They are for the `file` secret store, and for the settings that are secrets themselves, such as the database's URL.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from platform_app.errors import SecretNotFound, SecretStoreUnavailable

MAX_BYTES = 64 * 1024
_OTHERS = stat.S_IROTH | stat.S_IWOTH


def settings_from_files(
    names: Iterable[str], directory: Path | None, environ: Mapping[str, str], prefix: str
) -> tuple[dict[str, str], list[str]]:
    """Return the settings that the directory has files for, and one problem for each file that cannot be used.

    The file of the setting `database_url` is `PLATFORM_DATABASE_URL`, the name of its variable.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    if directory is None:
        return found, problems
    for name in names:
        variable = prefix + name.upper()
        path = directory / variable
        if not os.path.lexists(path):
            continue
        if environ.get(variable):
            problems.append(f"{variable}: is set, and there is a file {path}; unset the variable or remove the file")
            continue
        try:
            text = read_secret_file(directory, path)
        except (SecretNotFound, SecretStoreUnavailable) as error:
            problems.append(f"{variable}: {error}")
        else:
            if text:
                found[name] = text
            else:
                problems.append(f"{variable}: the file {path} is empty; write the value into it or remove it")
    return found, problems


def read_secret_file(directory: Path, path: Path) -> str:
    """Return a file's text without surrounding white space.

    Symbolic links are followed if they stay inside the directory: Kubernetes swaps a link (`..data`) to change all
    files of a volume at once. A file that every user of the machine may read or write is refused.

    Raises:
        SecretNotFound: there is no such file.
        SecretStoreUnavailable: the directory is missing, or the file is unsafe or cannot be read.
    """
    try:
        try:
            content = _open_and_read(directory, path)
        except FileNotFoundError:
            content = _open_and_read(directory, path)  # the link was swapped between the check and the read
    except FileNotFoundError:
        if not directory.is_dir():
            raise SecretStoreUnavailable(f"there is no directory {directory}; mount it") from None
        raise SecretNotFound(f"there is no file {path}; mount or write it") from None
    except OSError as error:
        raise SecretStoreUnavailable(f"the file {path} cannot be read: {error.strerror}") from None
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise SecretStoreUnavailable(f"the file {path} is not UTF-8 text") from None


def _open_and_read(directory: Path, path: Path) -> bytes:
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(directory)):
        raise SecretStoreUnavailable(
            f"the file {path} is a link to a place outside {directory}; put the file itself there"
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
