"""One guest for all tests here, with udpservices installed as docs/systemd.md has it."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT, missing, need_root
from tests.system.guest import HOME, Guest
from tests.system.tree import debian, wheel, wheels
from tests.system.units import Unit, installed

_WHEELS = "/root/wheels"

#: The guest has no network but its own: pip takes what it is to install from there.
OFFLINE = ("env", "PIP_NO_INDEX=1", f"PIP_FIND_LINKS={_WHEELS}")

#: What a copy of this checkout need not have.
NO_SOURCES = shutil.ignore_patterns(".*", "__pycache__", "dist", "build", "tests", "benchmarks")


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """It is booted once. Tests leave it as they found it."""
    need_root()
    if "overlay" not in Path("/proc/filesystems").read_text():
        missing("this kernel has no overlayfs")
    tree = debian()
    built = wheel(ROOT, tmp_path_factory.mktemp("wheel"))
    with Guest(tree) as guest:
        guest.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        guest.copy(wheels(tree), _WHEELS)
        guest.copy(built, f"{_WHEELS}/{built.name}")
        guest.does("python3", "-m", "venv", HOME)
        install(guest, "udpservices")
        yield guest


def install(guest: Guest, what: str) -> None:
    """As docs/systemd.md does, from the wheels that the guest has."""
    guest.does(*OFFLINE, HOME / "bin" / "pip", "install", "--quiet", what, timeout=60)
    guest.does(HOME / "bin" / "udpservices", "--help")


@pytest.fixture
def echo(guest: Guest) -> Iterator[Unit]:
    """``udpecho``, whose sockets are open."""
    with installed(guest, "udpecho") as unit:
        unit.does("enable", "--now", of="socket")
        yield unit


@pytest.fixture(scope="session")
def newer(guest: Guest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What to install for an upgrade: the same code with a version that is newer."""
    folder = tmp_path_factory.mktemp("newer")
    source = shutil.copytree(ROOT, folder / "source", ignore=NO_SOURCES)
    told = source / "udpservices" / "__init__.py"
    told.write_text(re.sub(r'(__version__ = ")[^"]+', r"\g<1>99.0", told.read_text()))
    built = wheel(source, folder / "dist")
    guest.copy(built, f"{_WHEELS}/{built.name}")
    return "udpservices==99.0"
