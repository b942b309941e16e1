"""A wheel that stands in for flowbiz-ai-core, which is on no public registry.

It holds what lies in `wheel/`: core's two top-level packages, `apps` (empty) and `packages` with the contract models
as core 0.2.0 documents them.
"""

import base64
import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path

SOURCES = Path(__file__).parent / "wheel"

Edits = Mapping[str, tuple[str, str]]
"""By file name of the wheel: what to replace in it, and with what."""


def build_wheel(directory: Path, *, version: str = "0.2.0", edits: Edits | None = None) -> Path:
    """Write the wheel into `directory`; pure zipfile, so that it needs no build tool and no network.

    Raises:
        ValueError: an edit would change nothing.
    """
    files = {path.relative_to(SOURCES).as_posix(): path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py")}
    for name, (old, new) in (edits or {}).items():
        if old not in files[name]:
            raise ValueError(f"{name} does not contain {old!r}")
        files[name] = files[name].replace(old, new)
    dist_info = f"flowbiz_ai_core-{version}.dist-info"
    files[f"{dist_info}/METADATA"] = f"Metadata-Version: 2.1\nName: flowbiz-ai-core\nVersion: {version}\n"
    files[f"{dist_info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: stand-in\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = "".join(_record_line(name, text) for name, text in files.items())
    files[f"{dist_info}/RECORD"] = f"{record}{dist_info}/RECORD,,\n"
    directory.mkdir(parents=True, exist_ok=True)
    wheel = directory / f"flowbiz_ai_core-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return wheel


def _record_line(name: str, text: str) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(text.encode())}\n"
