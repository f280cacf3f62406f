"""Lays out what ``make docs`` makes a site of: ``python -m docs.site.pages``.

Below ``build/pages`` each page lies where it lies in the project, so that its links lead to the same place in both: the
README, what stands in ``docs/``, and what these link to. A file that is no page becomes one that shows it, a folder one
that shows its files, and a module whose names are public one of their docstrings. ``build/zensical.toml`` is the
project's, with the pages in the order of ``docs/README.md``.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from docs.site.names import MODULES, ROOT, module_of, public_names

BUILD = ROOT / "build"

#: Pages that `docs/README.md` does not have.
ABOUT = [
    Path(name)
    for name in ("CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
]

#: What pages show as it is.
PICTURES = (".png", ".svg")

#: What the theme reads, and is no page.
ASSETS = ["frame-worker.js", "style.css", "tables.js"]

_FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_LANGUAGES = {".c": "c", ".py": "python", ".toml": "toml", ".service": "ini", ".socket": "ini", ".conf": "ini"}
_NO_SOURCE = {"__pycache__", "dropin.cache", "build", "dist"}


def page_of(path: Path) -> Path:
    """Where the page of a file or a folder lies among the pages, as the file does in the project; nothing is hidden."""
    seen = Path(*(part.lstrip(".") for part in path.parts))
    if (ROOT / path).is_dir():
        return seen / "README.md"
    if path.suffix in (".md", *PICTURES):
        return seen
    if (module := module_of(path)) in MODULES:
        return Path("docs", "api", f"{module}.md")
    return seen.with_name(f"{seen.name}.md")


class Pages:
    """The pages of the site, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._done: set[Path] = set()

    def add(self, path: Path) -> None:
        """Add the page of a file or a folder of the project, and of all that it links to."""
        if path in self._done:
            return
        self._done.add(path)
        source, target = ROOT / path, self.folder / page_of(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix in PICTURES:
            shutil.copy(source, target)
        elif source.suffix == ".md":
            target.write_text(self._linked(path, source.read_text()))
        elif (source / "README.md").exists():
            self.add(path / "README.md")
        elif "api" in page_of(path).parts:
            target.write_text(reference(module_of(path)))
        else:
            target.write_text(f"# `{path}`\n{''.join(_shown(source))}")

    def _linked(self, path: Path, text: str) -> str:
        """The text of a page, whose links lead to pages."""

        def lead(match: re.Match[str]) -> str:
            if re.match(r"\w+:", match[1]):
                return match[0]
            target = (ROOT / path.parent / match[1]).resolve().relative_to(ROOT)
            if not (ROOT / target).exists():
                raise SystemExit(f"{path} links to {target}, which is not there")
            self.add(target)
            return os.path.relpath(page_of(target), path.parent) + (match[2] or "")

        return "".join(part if "```" in part else _LINK.sub(lead, part) for part in _FENCE.split(text))


def reference(module: str) -> str:
    """The page of the public names of a module; the site's maker puts their docstrings there."""
    head = f"::: {module}\n    options:\n      heading_level: 1\n      members: false\n"
    return "\n".join([head, *(f"::: {name}\n" for name in public_names(module))])


def _shown(source: Path) -> Iterator[str]:
    """A file, or the files of a folder, each in a fenced block."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for file in files:
        if _NO_SOURCE.isdisjoint(file.parts):
            heading = f"\n## `{file.relative_to(source)}`\n" if source.is_dir() else ""
            yield f"{heading}\n````{_LANGUAGES.get(file.suffix, 'text')}\n{file.read_text()}````\n"


def order() -> list[dict[str, object]]:
    """The pages in order, as the site's maker wants them: a section for each heading of ``docs/README.md``."""
    found: list[dict[str, object]] = [{"udpservices": "README.md"}]
    sections = re.split(r"^## (.*)\n", (ROOT / "docs" / "README.md").read_text(), flags=re.MULTILINE)
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        rows = re.findall(r"^\| .* \| \[.*?\]\(([\w-]+\.md)\) \|$", text, re.MULTILINE)
        pages: list[object] = [f"docs/{name}" for name in rows]
        if "docs/api.md" in pages:
            pages[pages.index("docs/api.md")] = {"API": ["docs/api.md", *(f"docs/api/{name}.md" for name in MODULES)]}
        found.append({title: pages})
    return [*found, {"The project": ["docs/README.md", *map(str, ABOUT)]}]


def _toml(value: object) -> str:
    """A value in TOML's words: JSON's, but for the tables."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)


def main() -> None:
    """Lay out all pages anew."""
    folder = BUILD / "pages"
    shutil.rmtree(folder, ignore_errors=True)
    pages = Pages(folder)
    for path in [Path("README.md"), *(page.relative_to(ROOT) for page in sorted(ROOT.glob("docs/*.md"))), *ABOUT]:
        pages.add(path)
    for name in ASSETS:
        shutil.copy(ROOT / "docs" / "site" / name, folder / name)
    settings = (ROOT / "zensical.toml").read_text()
    (BUILD / "zensical.toml").write_text(settings.replace("nav = []", f"nav = {_toml(order())}"))


if __name__ == "__main__":
    main()
