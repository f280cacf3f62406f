"""What is built and installed once for all tests here."""

import runpy
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from twisted.application.service import IServiceMaker

from tests.packaging.environment import PATIENCE_TO_INSTALL, Environment, as_nobody, succeeded
from tests.support import ROOT, missing, run, udp_socket

# What a checkout has beside its sources: history, environments, caches, what was built. What git ignores is no
# concern of an unpacked archive, and must not get into a wheel from there either.
_NO_SOURCES = shutil.ignore_patterns(
    ".git", ".gitignore", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "dist", "build"
)


def copied(source: Path, copy: Path) -> Path:
    """A copy of a source tree that was run already: with a cache of its plugins and with compiled modules."""
    shutil.copytree(source, copy, ignore=_NO_SOURCES)
    plugins = copy / "twisted" / "plugins"
    (plugins / "dropin.cache").write_bytes(b"")
    (plugins / "__pycache__").mkdir()
    (plugins / "__pycache__" / "some_plugins.cpython-311.pyc").write_bytes(b"")
    return copy


def build(source: Path, into: Path, *options: str) -> None:
    """Run ``python -m build``, whose backend is the one that the tests came with."""
    builder = (sys.executable, "-m", "build", "--no-isolation")
    succeeded(run(*builder, "--outdir", into, *options, source, timeout=PATIENCE_TO_INSTALL))


class Built(NamedTuple):
    """The files to publish."""

    sdist: Path
    #: Built from the sdist, as pip does where it finds no wheel.
    wheel_of_sdist: Path
    #: Built from the source tree.
    wheel: Path


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """A folder for environments, which other users may enter: pytest's own is closed to them."""
    with tempfile.TemporaryDirectory(prefix="udpservices-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def checkout(place: Path) -> Path:
    """A copy of this checkout."""
    return copied(ROOT, place / "checkout")


@pytest.fixture(scope="session")
def built(place: Path, checkout: Path) -> Built:
    """What ``python -m build`` makes of the checkout."""
    build(checkout, place / "dist")
    build(checkout, place / "dist-of-tree", "--wheel")
    (sdist,) = (place / "dist").glob("*.tar.gz")
    (wheel_of_sdist,) = (place / "dist").glob("*.whl")
    (wheel,) = (place / "dist-of-tree").glob("*.whl")
    return Built(sdist, wheel_of_sdist, wheel)


@pytest.fixture(scope="session")
def open_python() -> Path | None:
    """A Python that every user may run: root's own one may be in root's home."""
    check = "import sys, venv; sys.exit(sys.version_info < (3, 11))"
    for python in (Path(sys.executable).resolve(), Path("/usr/bin/python3")):
        try:
            ended = run(python, "-c", check, cwd="/", **as_nobody())
        except (OSError, LookupError):  # it may not, or there is neither such a Python nor such a user
            continue
        if ended.returncode == 0:
            return python
    return None


@pytest.fixture(scope="session")
def installed(place: Path, built: Built, open_python: Path | None) -> Environment:
    """An environment with the wheel, of a Python that every user may run where there is one."""
    environment = Environment(place / "installed", open_python)
    environment.pip("install", built.wheel)
    return environment


@pytest.fixture(scope="session")
def expected() -> set[str]:
    """The commands that the checkout's plugin file declares."""
    names = runpy.run_path(str(ROOT / "twisted" / "plugins" / "udpservices_plugins.py"))
    found = {value.tapname for value in names.values() if IServiceMaker.providedBy(value)}
    assert found >= {"udpecho", "udpserve"}
    return found


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    """Both addresses of this host on loopback."""
    address: str = request.param
    try:
        udp_socket(address).close()
    except OSError as error:
        missing(f"this host has no {address} ({error})")
    return address
