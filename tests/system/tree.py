"""A Debian of its own as a folder, made once by debootstrap(8) and kept in the user's cache; wheels for its Python."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.support import ROOT, run, tool

#: Another one by hand: ``TREE_SUITE=sid make test-system``.
SUITE = os.environ.get("TREE_SUITE", "bookworm")

_PACKAGES = "systemd,dbus,python3,python3-venv"

# What a guest without terminals, users and updates has no need to start.
_MASKED = (
    "console-getty.service",
    "getty.target",
    "systemd-logind.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
)

_MIRROR = "http://deb.debian.org/debian/"

# The longest that a download may take, in seconds.
_PATIENCE_TO_DOWNLOAD = 1200.0


def _cache() -> Path:
    """Where trees and wheels are kept, outside of the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "udpservices" / "system"


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache; `make` fills it where it is not there. Half of one is never seen, nor made twice."""
    folder = _cache() / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{name}.lock")):
        if not folder.exists():
            half = folder.with_name(f"{name}.half")
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir(mode=0o755)
            make(half)
            half.rename(folder)
    return folder


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:12]


def _succeed(*words: str | Path) -> str:
    ended = run(*words, timeout=_PATIENCE_TO_DOWNLOAD, umask=0o022)
    assert ended.returncode == 0, f"{ended.args}: status {ended.returncode}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def debian(suite: str = SUITE, *more: str) -> Path:
    """The tree, with some more packages of that Debian. Nobody writes to it: guests have a layer of their own."""
    if not more:
        return _kept(f"{suite}-{_digest(_PACKAGES, *_MASKED)}", partial(_debootstrap, suite))
    return _kept(f"{suite}-{_digest(_PACKAGES, *_MASKED, *more)}", partial(_with_more, debian(suite), more))


def _debootstrap(suite: str, tree: Path) -> None:
    _succeed(tool("debootstrap"), "--variant=minbase", f"--include={_PACKAGES}", suite, tree, _mirror())
    shutil.rmtree(tree / "var" / "cache" / "apt")
    _succeed(tool("systemctl"), f"--root={tree}", "mask", *_MASKED)


def _with_more(base: Path, packages: Sequence[str], tree: Path) -> None:
    """A copy in which apt has installed packages, and what they need: debootstrap itself knows no virtual ones."""
    _succeed("cp", "--archive", f"{base}/.", tree)
    environment = ("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive")
    old = ("--option", "Acquire::Check-Valid-Until=false")  # debootstrap takes a mirror's snapshot as well
    apt = (tool("chroot"), tree, "env", *environment, "apt-get", "--quiet=2", *old)
    hurried = ("--option", "Dpkg::Options::=--force-unsafe-io")  # a tree that is half made is made anew
    _succeed(*apt, "update")
    _succeed(*apt, "install", "--yes", "--no-install-recommends", *hurried, *packages)
    shutil.rmtree(tree / "var" / "cache" / "apt")


def _mirror() -> str:
    """The one that this machine's apt uses, where it is a Debian's."""
    try:
        listed = run("apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages")
    except OSError:
        return _MIRROR
    found = [line.partition(" ")[2] for line in listed.stdout.splitlines() if line.startswith("Debian ")]
    return found[0] if found else _MIRROR


def wheels(tree: Path, *extras: str) -> Path:
    """A folder with all that udpservices needs, with these extras and to be built too, for a tree's Python."""
    python = (tree / "usr" / "bin" / "python3").readlink().name.removeprefix("python")
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    needed: list[str] = project["project"]["dependencies"] + project["build-system"]["requires"]
    needed += [one for extra in extras for one in project["project"]["optional-dependencies"][extra]]

    def download(folder: Path) -> None:
        platforms = [f"--platform=manylinux{version}_{os.uname().machine}" for version in ("2014", "_2_17", "_2_28")]
        only = ("--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *platforms)
        _succeed(sys.executable, "-m", "pip", "download", "--quiet", *only, "--dest", folder, *needed)

    return _kept(f"wheels-{_digest(python, *needed)}", download)


def wheel(source: Path, into: Path) -> Path:
    """The wheel of a source tree."""
    _succeed(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", into, source)
    (built,) = into.glob("*.whl")
    return built
