"""Puts into the wheel what `udpservices share` tells of: documentation, units, sample configuration, examples.

An editable installation has them where they are.
"""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: Files, and folders with all that is in them, where links between them hold.
SHARED = ("CHANGELOG.md", "LICENSE", "README.md", "SECURITY.md", "config", "docs", "examples")

# What running an example leaves there, and what makes a site of the documentation.
_LEFT_OUT = {"__pycache__", ".pytest_cache", "dropin.cache", "site"}


class Share(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's name for that is a build hook."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files; `version` is "editable" where none are to be copied."""
        if version == "editable":
            return
        root = Path(self.root)
        for name in SHARED:
            for path in [root / name, *(root / name).rglob("*")]:
                inside = path.relative_to(root)
                if path.is_file() and not _LEFT_OUT & set(inside.parts):
                    build_data["force_include"][str(path)] = f"udpservices/share/{inside}"
