"""Build the directory of a release: releases/SHA with `bin/flowbiz-platform`.

A virtual environment cannot be moved, so it is built in its place, and the file `complete` is written last. A directory
without that file is built again from the start.
"""

import re
import shutil
from collections.abc import Collection
from pathlib import Path

from apps.release_lane.commands import Commands, checked
from apps.release_lane.errors import LaneError, UsageError
from apps.release_lane.settings import LaneSettings

BUILD_SECONDS = 1800.0
_SHA = re.compile(r"[0-9a-f]{40}")
_MARK = "complete"


class Builder:
    """Builds releases from artifacts (a wheel and its lock file) or from a checkout of the source."""

    def __init__(self, settings: LaneSettings, commands: Commands) -> None:
        self._settings = settings
        self._commands = commands

    def resolve(self, commit: str) -> str:
        """Return the full SHA of a commit.

        Raises:
            UsageError: it is not a full SHA, and the source does not know it.
        """
        if _SHA.fullmatch(commit):
            return commit
        if self._settings.source is None:
            raise UsageError(
                f"'{commit}' is not a full commit SHA of 40 digits; lane.toml names no source to look it up"
            )
        git = [
            "git",
            "-C",
            str(self._settings.source),
            "rev-parse",
            "--verify",
            "--end-of-options",
            f"{commit}^{{commit}}",
        ]
        found = self._commands.run(git)
        if found.code != 0 or not _SHA.fullmatch(found.stdout.strip()):
            lines = [line.strip() for line in found.stderr.splitlines() if line.strip()] or ["no output"]
            reason = "; ".join(dict.fromkeys((lines[0], lines[-1])))  # the error, and what git advises
            raise UsageError(
                f"'{commit}' names no commit in {self._settings.source}. git: {reason}. If it is a new commit, fetch "
                "it first."
            )
        return found.stdout.strip()

    def directory(self, release: str) -> Path:
        """Return where a release is."""
        return self._settings.root / "releases" / release

    def is_built(self, release: str) -> bool:
        """Return whether a release is complete."""
        return (self.directory(release) / _MARK).exists()

    def build(self, release: str) -> str:
        """Build a release unless it is complete. Raises LaneError."""
        directory = self.directory(release)
        if self.is_built(release):
            return f"{directory} is already built"
        wheel_from, lock = self._sources(release)
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        self._run([self._settings.python, "-m", "venv", str(directory)])
        python = str(directory / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if wheel_from is None:
            wheel_from, lock = self._build_wheel(release, directory, python)
        wheels = sorted(wheel_from.glob("flowbiz_ai_platform-*.whl"))
        if len(wheels) != 1:
            raise LaneError(f"{len(wheels)} files flowbiz_ai_platform-*.whl in {wheel_from}; expected one")
        self._run([*pip, "--require-hashes", "-r", str(lock)])
        self._run([*pip, "--no-deps", str(wheels[0])])
        self._run([str(directory / "bin" / "flowbiz-platform"), "--help"])
        (directory / _MARK).touch()
        return f"built {directory} from {wheels[0]}"

    def prune(self, keep: int, needed: Collection[str]) -> str:
        """Remove the oldest releases, so that `keep` of them stay. A needed release is never removed.

        Raises:
            LaneError: a release cannot be removed.
        """
        found = sorted((self._settings.root / "releases").iterdir(), key=self._built_at, reverse=True)
        kept = {each.name for each in found if each.name in needed}
        removed = []
        for directory in found:
            if directory.name in kept:
                continue
            if len(kept) < keep and self.is_built(directory.name):
                kept.add(directory.name)
                continue
            self._remove(directory)
            removed.append(directory.name)
        left = f"{len(kept)} releases are kept"
        return f"removed {', '.join(removed)}; {left}" if removed else f"nothing to remove; {left}"

    def _built_at(self, directory: Path) -> float:
        mark = directory / _MARK
        return mark.stat().st_mtime if mark.exists() else 0.0

    @staticmethod
    def _remove(directory: Path) -> None:
        try:
            # First, because what is removed in part must not count as built.
            (directory / _MARK).unlink(missing_ok=True)
            shutil.rmtree(directory)
        except OSError as error:
            raise LaneError(f"{directory} cannot be removed: {error.strerror}", "Remove it by hand.") from None

    def _sources(self, release: str) -> tuple[Path | None, Path]:
        """Return the folder of the wheel, None if it has to be built, and the lock file."""
        artifacts = self._settings.artifacts
        if artifacts is not None and (artifacts / release).is_dir():
            return artifacts / release, artifacts / release / "requirements.lock"
        if self._settings.source is not None:
            return None, Path()
        raise LaneError(
            f"{self.directory(release)} is not built, and lane.toml names neither a source nor artifacts with this SHA",
            "Copy the wheel and requirements.lock of the release to artifacts/SHA, or set source in lane.toml.",
        )

    def _build_wheel(self, release: str, directory: Path, python: str) -> tuple[Path, Path]:
        source, archive = directory / "source", directory / "source.tar"
        source.mkdir()
        git = ["git", "-C", str(self._settings.source), "archive", "--output", str(archive), release]
        checked(self._commands, git, f"Fetch the commit into {self._settings.source}, then repeat the command.")
        self._run(["tar", "-xf", str(archive), "-C", str(source)])
        archive.unlink()
        self._run([python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(directory / "dist"), str(source)])
        return directory / "dist", source / "requirements.lock"

    def _run(self, arguments: list[str]) -> None:
        remedy = "Read the output above; repeat the command once the cause is fixed: an incomplete build starts again."
        checked(self._commands, arguments, remedy, timeout=BUILD_SECONDS)
