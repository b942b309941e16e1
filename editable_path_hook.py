"""Build hook: keeps `apps.platform_api` importable beside flowbiz-ai-core.

flowbiz-ai-core ships a top-level package `apps` too. In a normal install both share one folder and live
together. In an editable install a plain `.pth` line appends the checkout *behind* site-packages, where
core's empty `apps/__init__.py` wins and ours is gone. The editable wheel therefore carries a `.pth` that
puts the checkout in front; `apps/__init__.py` then extends its path, so that core's `apps.api` stays
importable as well. tests/integration/cli/test_core_collision.py proves it with a stand-in wheel.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class EditablePathHook(BuildHookInterface[Any]):
    """Adds the path line to editable wheels; normal wheels stay as they are."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it writes a wheel; `version` is "editable" for editable ones."""
        if version != "editable":
            return
        line = f"import sys; p = {self.root!r}; p in sys.path and sys.path.remove(p); sys.path.insert(0, p)\n"
        # The name sorts last: a plain .pth of the same wheel must have been read before.
        pth = Path(self.directory) / "zz_flowbiz_ai_platform_first.pth"
        pth.parent.mkdir(parents=True, exist_ok=True)
        pth.write_text(line, encoding="utf-8")
        build_data["force_include_editable"][str(pth)] = pth.name
