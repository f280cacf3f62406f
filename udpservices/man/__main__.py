"""``python -m udpservices.man FOLDER``: the manual pages, and completion for shells, as files of a folder."""

import sys
from pathlib import Path

from udpservices.man.bash import bash
from udpservices.man.fish import TWISTED, fish, fish_of_twisted
from udpservices.man.pages import pages
from udpservices.man.zsh import zsh


def main(folder: Path) -> None:
    """Write them; `folder` is made, where it is not there, and in it a folder a kind."""
    for name, text in {
        **{f"man1/{name}": text for name, text in pages().items()},
        "bash/udpservices": bash(),
        "zsh/_udpservices": zsh(),
        "fish/udpservices.fish": fish(),
        **{f"fish/{name}.fish": fish_of_twisted(name) for name in TWISTED},
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("Usage: python -m udpservices.man FOLDER")
    main(Path(sys.argv[1]))
