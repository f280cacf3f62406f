"""What a Markdown page holds: sections, fenced blocks, tables and links."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    #: Where it starts, from 1.
    line: int

    @property
    def file_name(self) -> str | None:
        """The path in its first line, where that is a comment and nothing else: ``# udpshout.py``."""
        found = re.match(r"# (\S+\.\w+)\n", self.text)
        return found[1] if found else None


class Section(NamedTuple):
    """What stands under one heading, without the sections below it."""

    page: "Page"
    title: str
    blocks: list[Block]

    @property
    def name(self) -> str:
        return f"{self.page.name}#{anchor(self.title)}"


class Page:
    """A Markdown file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.sections = [Section(self, "", [])]
        prose: list[str] = []
        fence: list[str] | None = None
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("```"):
                if fence is None:
                    language, start, fence = line[3:].strip(), number, []
                else:
                    self.sections[-1].blocks.append(Block(language, "".join(fence), start))
                    fence = None
            elif fence is not None:
                fence.append(f"{line}\n")
            else:
                if heading := re.match("#+ (.*)", line):
                    self.sections.append(Section(self, heading[1], []))
                prose.append(line)
        assert fence is None, f"{self.name}: the block of line {start} does not end"
        #: All but the fenced blocks.
        self.prose = "\n".join(prose)

    @property
    def blocks(self) -> list[Block]:
        return [block for section in self.sections for block in section.blocks]

    @property
    def anchors(self) -> set[str]:
        return {anchor(section.title) for section in self.sections}

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    def table(self, *columns: str) -> list[list[str]]:
        """The rows of the table with these columns, the text of each cell."""
        head = f"| {' | '.join(columns)} |"
        lines = self.prose.splitlines()
        assert lines.count(head) == 1, f"{self.name}: one table {head}"
        return list(_rows(lines[lines.index(head) + 2 :]))


def _rows(lines: list[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def anchor(title: str) -> str:
    """What links to a heading name it by."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def code(cell: str) -> str | None:
    """What a table's cell holds, where that is code and nothing else."""
    found = re.fullmatch("`([^`]+)`", cell)
    return found[1] if found else None
