"""What is in the files that are published."""

import tarfile
import zipfile
from pathlib import Path

from tests.packaging.conftest import Built

DROPIN = "twisted/plugins/udpservices_plugins.py"

#: Where what `udpservices share` tells of is in a wheel.
SHARE = "udpservices/share/"


def contents(wheel: Path) -> dict[str, bytes]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_wheel_holds_the_package_and_its_plugin_file_alone(built: Built, checkout: Path) -> None:
    """All of the package, and of Twisted's folder only our file.

    A ``twisted/__init__.py`` or ``twisted/plugins/__init__.py`` would overwrite Twisted's own; a ``dropin.cache`` would
    hide plugins; tests would be installed as a package called ``tests``.
    """
    package = {
        path.relative_to(checkout).as_posix() for path in (checkout / "udpservices").rglob("*") if path.is_file()
    }
    files = {name for name in contents(built.wheel) if ".dist-info/" not in name}
    shared = {name for name in files if name.startswith(SHARE)} - package
    assert files - shared == {*package, DROPIN}
    assert "udpservices/py.typed" in files


def test_wheel_holds_what_share_tells_of(built: Built, checkout: Path) -> None:
    """Each file as the checkout has it, where links between them hold; nothing that running examples leaves there."""
    files = {name.removeprefix(SHARE): text for name, text in contents(built.wheel).items() if name.startswith(SHARE)}
    files.pop("__init__.py")
    assert {name: (checkout / name).read_bytes() for name in files} == files
    for pattern in ("docs/*", "config/**/*", "examples/**/*.py"):
        wanted = {path.relative_to(checkout).as_posix() for path in checkout.glob(pattern) if path.is_file()}
        assert wanted <= files.keys(), pattern
    assert files.keys() >= {"README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE"}
    assert not [name for name in files if name.endswith(("dropin.cache", ".pyc"))]


def test_wheel_holds_the_license(built: Built, checkout: Path) -> None:
    """The MIT license goes with every copy."""
    files = contents(built.wheel)
    (name,) = [name for name in files if name.endswith(".dist-info/licenses/LICENSE")]
    assert files[name] == (checkout / "LICENSE").read_bytes()


def test_sdist_builds_the_same_wheel(built: Built) -> None:
    """Whoever installs from source gets what the others get, to the byte."""
    assert contents(built.wheel_of_sdist) == contents(built.wheel)


def test_sdist_holds_sources_and_nothing_that_was_made_of_them(built: Built) -> None:
    """A packager builds and tests from it; caches of another machine have no place there."""
    with tarfile.open(built.sdist) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert names >= {"pyproject.toml", "README.md", "LICENSE", "Makefile", "tests/support.py", DROPIN}
    assert names >= {"docs/README.md", "config/systemd/udpecho.service", "packaging/share.py"}
    made = {name for name in names if name.endswith((".pyc", "dropin.cache")) or "__pycache__" in name}
    assert not made
