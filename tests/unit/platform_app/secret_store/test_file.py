"""Secrets from files: what is mounted, what is refused, and what happens while Kubernetes swaps a volume."""

import asyncio
import os
import re
from pathlib import Path

import pytest

from platform_app.config.secrets.files import MAX_BYTES
from platform_app.errors import SecretNotFound, SecretStoreUnavailable
from platform_app.secret_store.cache import CachedSecretStore
from platform_app.secret_store.file import FileSecretStore


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    directory = tmp_path / "secrets"
    directory.mkdir()
    return directory


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def kubernetes_writes(volume: Path, generation: int, **secrets: str) -> None:
    """Write a volume as the kubelet does: into a new directory, to which a link is then renamed."""
    real = volume / f"..2026_{generation}"
    for name, text in secrets.items():
        write(real / name, text, 0o440)
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(Path("..data") / name)
    (volume / "..data_tmp").symlink_to(real.name)
    (volume / "..data_tmp").rename(volume / "..data")
    for old in volume.glob("..2026_*"):
        if old != real:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()


async def test_file_store_reads_each_swapped_kubernetes_volume(mounted: Path) -> None:
    store = FileSecretStore(mounted)
    for generation in range(20):
        kubernetes_writes(mounted, generation, KEY=f"v{generation}")
        assert (await store.get("KEY")).value == f"v{generation}"
    await store.aclose()


async def test_file_store_reads_volume_that_is_swapped_repeatedly(mounted: Path) -> None:
    """A directory may vanish between following the link and opening the file."""
    kubernetes_writes(mounted, 0, KEY="v")
    store = FileSecretStore(mounted)

    async def swap() -> None:
        for generation in range(1, 150):
            await asyncio.to_thread(kubernetes_writes, mounted, generation, KEY="v")

    swapping = asyncio.create_task(swap())
    failures = 0
    while not swapping.done():
        try:
            assert (await store.get("KEY")).value == "v"
        except SecretNotFound:  # missing twice in a row; the cache looks it up again a second later
            failures += 1
    assert failures < 5
    await store.aclose()


async def test_file_store_next_look_up_sees_change(mounted: Path) -> None:
    write(mounted / "KEY", "old")
    cache = CachedSecretStore(FileSecretStore(mounted), ttl_seconds=300, refresh_seconds=0.05)
    refreshing = asyncio.create_task(cache.run())
    assert (await cache.get("KEY")).value == "old"
    write(mounted / "KEY", "new")
    async with asyncio.timeout(300):
        while (await cache.get("KEY")).value != "new":
            await asyncio.sleep(0.02)
    refreshing.cancel()
    await asyncio.gather(refreshing, return_exceptions=True)
    await cache.aclose()


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666, 0o444])
async def test_file_store_world_readable_file_is_refused(mounted: Path, mode: int) -> None:
    path = write(mounted / "KEY", "sk-canary", mode)
    store = FileSecretStore(mounted)
    with pytest.raises(SecretStoreUnavailable) as caught:
        await store.get("KEY")
    assert f"run: chmod o-rwx {path}" in str(caught.value)
    assert f"(mode {mode:04o})" in str(caught.value)
    assert "sk-canary" not in str(caught.value)
    path.chmod(mode & 0o770 | 0o400)
    assert (await store.get("KEY")).value == "sk-canary"
    await store.aclose()


async def test_file_store_checks_the_mode_of_the_link_target(mounted: Path) -> None:
    kubernetes_writes(mounted, 0, KEY="v")
    (mounted / "..2026_0" / "KEY").chmod(0o644)
    store = FileSecretStore(mounted)
    with pytest.raises(SecretStoreUnavailable, match="chmod"):
        await store.get("KEY")
    await store.aclose()


@pytest.mark.parametrize("target", ["../outside", "/etc/hostname", "../secrets-too/KEY"])
async def test_file_store_link_to_outside_is_refused(mounted: Path, target: str) -> None:
    write(mounted.parent / "outside", "sk-canary")
    write(mounted.parent / "secrets-too" / "KEY", "sk-canary")
    (mounted / "KEY").symlink_to(target)
    store = FileSecretStore(mounted)
    with pytest.raises(SecretStoreUnavailable, match="is a link to a place outside"):
        await store.get("KEY")
    await store.aclose()


async def test_file_store_directory_may_be_a_link(mounted: Path) -> None:
    write(mounted / "KEY", "v")
    link = mounted.parent / "link"
    link.symlink_to(mounted)
    store = FileSecretStore(link)
    assert (await store.get("KEY")).value == "v"
    await store.aclose()


async def test_file_store_fifo_is_refused_without_hanging(mounted: Path) -> None:
    (mounted / "directory").mkdir()
    os.mkfifo(mounted / "pipe", 0o600)
    store = FileSecretStore(mounted)
    for name in ("directory", "pipe"):
        with pytest.raises(SecretStoreUnavailable, match="is not a regular file"):
            await asyncio.wait_for(store.get(name), 60)
    await store.aclose()


async def test_file_store_circular_link_is_refused(mounted: Path) -> None:
    (mounted / "KEY").symlink_to("KEY")
    store = FileSecretStore(mounted)
    with pytest.raises(SecretStoreUnavailable, match="cannot be read"):
        await store.get("KEY")
    await store.aclose()


async def test_file_store_binary_or_large_file_is_refused(mounted: Path) -> None:
    (mounted / "bytes").write_bytes(b"\xff\xfe")
    write(mounted / "long", "x" * (MAX_BYTES + 1))
    for name in ("bytes", "long"):
        (mounted / name).chmod(0o600)
    store = FileSecretStore(mounted)
    with pytest.raises(SecretStoreUnavailable, match="UTF-8"):
        await store.get("bytes")
    with pytest.raises(SecretStoreUnavailable, match=f"more than {MAX_BYTES} bytes"):
        await store.get("long")
    await store.aclose()


async def test_file_store_names_path_of_missing_or_empty_file(mounted: Path) -> None:
    write(mounted / "EMPTY", "\n")
    store = FileSecretStore(mounted)
    for name in ("NONE", "EMPTY"):
        with pytest.raises(SecretNotFound, match=re.escape(str(mounted / name))):
            await store.get(name)
    with pytest.raises(SecretNotFound, match="no fields"):
        await store.get("NONE#field")
    await store.aclose()
