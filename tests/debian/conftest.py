"""The package, built once, and guests that have what it depends on and nothing else."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.debian.building import SUITE, build, builder
from tests.packaging.conftest import expected as expected
from tests.support import ROOT, missing, need_root
from tests.system.guest import Guest
from tests.system.tree import debian

#: Where a guest finds packages to install.
PACKAGES = "/root/packages"


@pytest.fixture(scope="session")
def workshop() -> Iterator[Guest]:
    """Where it is built."""
    need_root()
    if "overlay" not in Path("/proc/filesystems").read_text():
        missing("this kernel has no overlayfs")
    with builder() as guest:
        yield guest


@pytest.fixture(scope="session")
def package(workshop: Guest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make deb` makes."""
    return build(workshop, ROOT, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="session")
def newer(workshop: Guest, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a version that is newer."""
    workshop.does("sh", "-c", "rm -rf /root/newer && dpkg-deb --raw-extract /root/built/*.deb /root/newer")
    tree = workshop.root / "root" / "newer"
    control = tree / "DEBIAN" / "control"
    control.write_text(re.sub("(?m)^Version: .*", "Version: 99.0-1", control.read_text()))
    (told,) = tree.glob("usr/lib/python3/dist-packages/udpservices/__init__.py")
    told.write_text(re.sub(r'(__version__ = ")[^"]+', r"\g<1>99.0", told.read_text()))
    workshop.does("dpkg-deb", "--build", "/root/newer", "/root/newer.deb")
    copy = tmp_path_factory.mktemp("newer") / "udpservices_99.0-1_all.deb"
    copy.write_bytes((workshop.root / "root" / "newer.deb").read_bytes())
    return copy


@contextlib.contextmanager
def has_dependencies() -> Iterator[Guest]:
    """A guest that has what the package depends on."""
    with Guest(debian(SUITE, "python3-twisted")) as guest:
        guest.write("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
        yield guest


@contextlib.contextmanager
def _installed(package: Path, newer: Path) -> Iterator[Guest]:
    with has_dependencies() as guest:
        for path in (package, newer):
            guest.copy(path, f"{PACKAGES}/{path.name}")
        install(guest, package)
        yield guest


@pytest.fixture(scope="session")
def guest(package: Path, newer: Path) -> Iterator[Guest]:
    """A guest in which it is installed, and stays so."""
    with _installed(package, newer) as guest:
        yield guest


@pytest.fixture
def own(package: Path, newer: Path) -> Iterator[Guest]:
    """One that a test has for itself, with the newer package as a file."""
    with _installed(package, newer) as guest:
        yield guest


def install(guest: Guest, package: Path) -> str:
    """Install a package that a guest has as a file; what apt wrote."""
    words = ("apt-get", "install", "--yes", "--quiet=2", f"{PACKAGES}/{package.name}")
    return guest.does("env", "DEBIAN_FRONTEND=noninteractive", *words, timeout=300)
