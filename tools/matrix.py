"""Runs the suite with each Python that this machine has, and with the oldest and the newest Twisted: ``make matrix``.

An environment a pair is kept in ``.venv-matrix``. In the end a line a pair says whether its tests passed.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: The oldest Twisted that pyproject.toml allows, and whatever is the newest.
TWISTED = {"oldest": "Twisted==24.11.*", "newest": "Twisted"}

#: The oldest Python that it allows.
OLDEST = (3, 11)

#: Where pyenv keeps what it built.
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"

ENVIRONMENTS = Path(".venv-matrix")

Version = tuple[int, int]


def main() -> int:
    """Run what the command line asks for; the exit status is 1 where some tests of a pair failed."""
    parser = argparse.ArgumentParser(prog="make matrix")
    parser.add_argument("--list", action="store_true", help="say which Pythons there are, and exit")
    parser.add_argument(
        "--python", help="with this version alone, such as 3.13; or with the newest, if newer than this"
    )
    parser.add_argument("--twisted", choices=list(TWISTED), help="with this Twisted alone")
    parser.add_argument("words", nargs="*", metavar="-- PYTEST", help="for pytest (default: --mode unit)")
    wanted = parser.parse_args()
    there = interpreters(_candidates())
    chosen = select(there, wanted.python, sys.version_info[:2])
    if wanted.list or not chosen:
        print("\n".join(f"{_name(version)}  {python}" for version, python in there.items()))
        return 0 if chosen or wanted.python == "newer" else 1
    pairs = [(version, twisted) for version in chosen for twisted in TWISTED if wanted.twisted in (None, twisted)]
    results = {}
    for version, twisted in pairs:
        name = f"Python {_name(version)}, {twisted} Twisted"
        print(f"== {name}", flush=True)
        python = environment(there[version], ENVIRONMENTS / f"{_name(version)}-{twisted}", TWISTED[twisted])
        results[f"{name} {_twisted(python)}"] = _run_suite(python, wanted.words or ["--mode", "unit"])
    print("\n".join(f"{name}: {'passed' if is_right else 'failed'}" for name, is_right in results.items()))
    return 0 if all(results.values()) else 1


def _candidates() -> list[Path]:
    """What may be a Python: this one, those of pyenv, and what the system has; pyenv's shims stand for the former."""
    path = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if not folder.endswith("/shims")]
    found = [file for folder in (*PYENV.glob("*/bin"), *path, Path("/usr/bin")) for file in folder.glob("python3*")]
    named = [file for file in found if re.fullmatch(r"python3(\.\d+)?", file.name)]
    return [file.resolve() for file in (Path(sys.executable), *named)]


def interpreters(candidates: Iterable[Path]) -> dict[Version, Path]:
    """A Python of each version that is served, the first one that can make environments, oldest version first."""
    found: dict[Version, Path] = {}
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2], sys.executable)"
    for path in dict.fromkeys(candidates):
        ended = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if ended.returncode:
            continue
        major, minor, executable = ended.stdout.split(maxsplit=2)
        found.setdefault((int(major), int(minor)), Path(executable.strip()))
    return {version: found[version] for version in sorted(found) if version >= OLDEST}


def select(there: Iterable[Version], python: str | None, this: Version) -> list[Version]:
    """Of some versions those that are wanted: all, the one of this name, or the newest if it is "newer" than `this`."""
    versions = sorted(there)
    if python == "newer":
        return [version for version in versions[-1:] if version > this]
    return [version for version in versions if python in (None, _name(version))]


def environment(python: Path, folder: Path, twisted: str) -> Path:
    """The Python of an environment with this checkout, its tests' needs and a Twisted, made where there is none yet."""
    installed = folder / "installed"
    digest = hashlib.sha256(Path("pyproject.toml").read_bytes()).hexdigest()
    made = folder / "bin" / "python"
    if not installed.exists() or installed.read_text() != digest:
        subprocess.run([python, "-m", "venv", "--clear", folder], check=True)
        pip = (made, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        subprocess.run([*pip, "--editable", ".[test]", twisted], check=True)
        installed.write_text(digest)
    return made


def _twisted(python: Path) -> str:
    code = "import twisted; print(twisted.__version__)"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _run_suite(python: Path, words: list[str]) -> bool:
    """Whether its tests pass; what fails in the crowd is tried once more alone, as in the Makefile."""
    pytest = (python, "-m", "pytest", "-q")
    processes = str((3 * len(os.sched_getaffinity(0)) + 1) // 2)
    crowd = subprocess.run([*pytest, "--numprocesses", processes, "--dist", "loadfile", *words], check=False)
    alone = ("--last-failed", "--last-failed-no-failures", "none")
    return crowd.returncode == 0 or subprocess.run([*pytest, *alone], check=False).returncode == 0


def _name(version: Version) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.exit(main())
