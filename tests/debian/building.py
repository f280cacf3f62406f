"""The Debian package, built in a Debian of its own: ``python -m tests.debian.building FOLDER``, as root."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import ROOT
from tests.system.guest import Guest
from tests.system.tree import debian

#: The first one that has a Twisted that is new enough; or sid, by hand.
SUITE = "sid" if os.environ.get("TREE_SUITE") == "sid" else "trixie"

#: What Build-Depends names, but for what its users need as well.
_BUILD = (
    "debhelper",
    "dh-python",
    "lintian",
    "make",
    "pybuild-plugin-pyproject",
    "python3-all",
    "python3-hatchling",
    "python3-twisted",
)

_NO_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "tests", "benchmarks", "dropin.cache")

#: The longest that building may take, in seconds.
_PATIENCE = 300.0


@contextmanager
def builder() -> Iterator[Guest]:
    """A guest that has what builds the package, and looks at it."""
    with Guest(debian(SUITE, *_BUILD)) as guest:
        yield guest


def build(guest: Guest, source: Path, into: Path) -> Path:
    """The package of a source tree, with what dpkg says of it beside it."""
    copy = into / "source"
    shutil.copytree(source, copy, ignore=_NO_SOURCES)
    guest.copy(copy, "/root/source")
    shutil.rmtree(copy)
    guest.does("/root/source/packaging/build-deb", "/root/built", timeout=_PATIENCE)
    for path in (guest.root / "root" / "built").iterdir():
        shutil.copy(path, into)
    (package,) = into.glob("*.deb")
    return package


def main(folder: Path) -> None:
    """Write it to a folder, which is made where it is not there, and its name to standard output."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("udpservices_*"):
        old.unlink()
    with builder() as guest:
        print(build(guest, ROOT, folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
