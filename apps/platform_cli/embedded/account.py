"""The account that a server runs as, because PostgreSQL refuses to run as root."""

import os
import pwd
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from apps.platform_cli.embedded.errors import EmbeddedError

_SHIFT_OWNER, _SHIFT_GROUP, _SHIFT_OTHERS = 6, 3, 0
_READ, _SEARCH = 4, 1


@dataclass(frozen=True)
class Account:
    """A user that a child process becomes, without supplementary groups."""

    name: str
    uid: int
    gid: int


def account_for(directory: Path) -> Account | None:
    """Return the owner of the server's data in `directory`, or None to run as the current user.

    Raises:
        EmbeddedError: the directory belongs to a user that this process cannot become.
    """
    owner = directory.stat() if directory.exists() else None
    ourselves = os.geteuid()
    if ourselves != 0:
        if owner is not None and owner.st_uid != ourselves:
            raise EmbeddedError(
                f"{directory} belongs to user id {owner.st_uid}, and this is user id {ourselves}; run as that "
                "user or as root, or choose another directory with --data-dir"
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(f"user id {owner.st_uid}", owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root and this system has no account `nobody`; run as another user"
        ) from None
    return Account("nobody", entry.pw_uid, entry.pw_gid)


def give(account: Account, directory: Path) -> None:
    """Give the account a directory that belongs to root, as after a copy by root. Otherwise do nothing."""
    if directory.stat().st_uid == account.uid:
        return
    for folder, _, names in os.walk(directory):
        os.chown(folder, account.uid, account.gid)
        for name in names:
            os.chown(Path(folder, name), account.uid, account.gid, follow_symlinks=False)


def let_search(account: Account, paths: Iterable[Path], notify: Callable[[str], None]) -> None:
    """Let the account traverse every directory above the paths: search permission only, not listing.

    Raises:
        EmbeddedError: a directory's mode cannot be changed.
    """
    prefixes = {prefix for path in paths for prefix in path.resolve().parents}
    opened = [prefix for prefix in sorted(prefixes) if _allow(account, prefix, _SEARCH)]
    if opened:
        listed = ", ".join(str(prefix) for prefix in opened)
        notify(f"PostgreSQL runs as '{account.name}': made searchable (o+x, not listable): {listed}")


def let_read(account: Account, trees: Iterable[Path], notify: Callable[[str], None]) -> None:
    """Let the account read everything below the directories, and run the programs there.

    Raises:
        EmbeddedError: a file's mode cannot be changed.
    """
    opened = 0
    for tree in trees:
        for folder, _, names in os.walk(tree):
            opened += _allow(account, Path(folder), _READ | _SEARCH)
            opened += sum(_allow(account, Path(folder, name), _READ) for name in names)
    if opened:
        notify(f"PostgreSQL runs as '{account.name}': made {opened} files of its binaries readable (o+rX)")


def _allow(account: Account, path: Path, wanted: int) -> bool:
    """Add the missing permission bits to the class of the mode that applies. Return whether any was missing."""
    status = path.stat()
    if status.st_uid == account.uid:
        shift = _SHIFT_OWNER
    elif status.st_gid == account.gid:
        shift = _SHIFT_GROUP
    else:
        shift = _SHIFT_OTHERS
    if stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IXUSR:
        wanted |= _SEARCH
    missing = (wanted << shift) & ~status.st_mode
    if not missing:
        return False
    try:
        path.chmod(stat.S_IMODE(status.st_mode) | missing)
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL runs as '{account.name}', which cannot reach {path}, and its mode cannot be changed "
            f"({error.strerror}); choose another directory with --data-dir, or run as another user"
        ) from None
    return True
