"""Makes a release, as far as that goes on this machine: ``make release VERSION=0.2.0``.

The tree must be clean and its suite green. Then the changelog is built, the version written, both committed; of that
commit, and nothing else, come the files to publish, which are looked at, installed and tried. A tag is the last step.
Nothing leaves the machine: what would, is told. What fails leaves the tree as it was.
"""

import argparse
import hashlib
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from packaging.version import InvalidVersion, Version

#: Where the version stands, in the words of the one before.
VERSIONED = ("udpservices/__init__.py", "config/kubernetes/*/kustomization.yaml")

#: How often udpecho is asked before it is given up, and how long each time, in seconds.
_ATTEMPTS, _PATIENCE = 20, 1.0


class Refused(Exception):
    """Why there is no release, in a line."""


def main() -> None:
    """Read the command line, and make the release that it asks for."""
    parser = argparse.ArgumentParser(prog="make release")
    parser.add_argument("version", help="the new one, such as 0.2.0")
    parser.add_argument("--suite", default="make test", help="what must pass (default: %(default)s)")
    parser.add_argument("--dist", type=Path, default=Path("dist"), help="where the files go (default: %(default)s)")
    wanted = parser.parse_args()
    try:
        release(wanted.version, shlex.split(wanted.suite), wanted.dist)
    except (Refused, OSError) as error:
        sys.exit(f"no release: {error}")


def release(version: str, suite: list[str], dist: Path) -> None:
    """Make a release of the current folder's tree into `dist`. Raises Refused."""
    before = _check(version)
    _step(f"the suite: {shlex.join(suite)}")
    _run(*suite)
    if _git("status", "--porcelain"):
        raise Refused("the suite has left something in the tree: git status shows it")
    with _commit(before, version):
        files = _build(dist / version)
        wheel = next(path for path in files if path.suffix == ".whl")
        with tempfile.TemporaryDirectory(prefix="udpservices-") as folder:
            python = _install(wheel, Path(folder))
            _try(python.parent / "udpservices", version)
            files.append(_list_parts(python, dist / version / f"udpservices-{version}.cdx.json"))
        _sum(files)
        _git("tag", "--annotate", f"--message=udpservices {version}", f"v{version}")
    _step(f"{dist / version} has {', '.join(sorted(path.name for path in files))}")
    print(f"Nothing has left this machine. To publish it: git push origin HEAD v{version}")


def _check(version: str) -> str:
    """The version of now, where another may follow it."""
    text = Path("udpservices/__init__.py").read_text()
    (before,) = re.findall(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    try:
        is_newer = Version(version) > Version(before) and str(Version(version)) == version
    except InvalidVersion:
        is_newer = False
    if not is_newer:
        raise Refused(f"{version!r} is no version after {before}, as 1.2.3 and 1.2.3rc1 are written")
    if _git("tag", "--list", f"v{version}"):
        raise Refused(f"there is a tag v{version} already")
    if _git("status", "--porcelain"):
        raise Refused("the tree is not clean: git status shows it")
    if not list(Path("changelog.d").glob("+*.md")):
        raise Refused("changelog.d has no fragments: nothing has changed that a user can notice")
    return str(before)


@contextmanager
def _commit(before: str, version: str) -> Iterator[None]:
    """A commit of the changelog and the version; what fails meanwhile takes it back."""
    start = _git("rev-parse", "HEAD")
    try:
        _step("the changelog and the version")
        _run(sys.executable, "-m", "towncrier", "build", "--yes", f"--version={version}")
        for path in (found for pattern in VERSIONED for found in Path().glob(pattern)):
            text = path.read_text()
            if before not in text:
                raise Refused(f"{path} does not have the version {before}")
            path.write_text(text.replace(before, version))
            _git("add", str(path))
        _git("commit", f"--message=Release {version}")
        yield
    except BaseException:
        _git("reset", "--hard", start)  # the tree was clean
        raise


def _build(into: Path) -> list[Path]:
    """The files of what is committed, which are as an index wants them."""
    _step("the files")
    into.mkdir(parents=True, exist_ok=True)
    for old in into.iterdir():
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="udpservices-") as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], check=True, capture_output=True).stdout
        subprocess.run(["tar", "--extract", f"--directory={folder}"], check=True, input=archive)
        environ = {"SOURCE_DATE_EPOCH": _git("log", "-1", "--format=%ct")}
        _run(sys.executable, "-m", "build", "--no-isolation", f"--outdir={into}", folder, **environ)
    files = sorted(into.iterdir())
    _run(sys.executable, "-m", "twine", "check", "--strict", *map(str, files))
    return files


def _install(wheel: Path, folder: Path) -> Path:
    """The Python of an environment in which nothing is but the wheel and what it needs."""
    _step("an environment of its own")
    _run(sys.executable, "-m", "venv", "--without-pip", str(folder / "venv"))
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet")
    _run(*pip, str(wheel))
    return python


def _try(command: Path, version: str) -> None:
    """The command says its version, knows its files, and answers."""
    said = subprocess.run([command, "udpecho", "--version"], capture_output=True, text=True, check=True)
    if not said.stdout.startswith(f"udpservices {version},"):
        raise Refused(f"what is installed says {said.stdout.strip()!r}")
    _run(str(command), "share")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        echo = [str(command), "udpecho", "--listen", f"fd:{sock.fileno()}"]
        serving = subprocess.Popen(echo, pass_fds=[sock.fileno()])
        try:
            if not _answers(sock.getsockname()):
                raise Refused("udpecho does not answer")
        finally:
            serving.terminate()
            serving.wait()
    if serving.returncode:
        raise Refused(f"udpecho ended with status {serving.returncode}")


def _answers(address: tuple[str, int]) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(_PATIENCE)
        for _ in range(_ATTEMPTS):
            client.sendto(b"hello", address)
            try:
                return client.recv(16) == b"hello"
            except TimeoutError:
                continue
    return False


def _list_parts(python: Path, into: Path) -> Path:
    """The list of what is in an environment, as CycloneDX has it, which is checked too."""
    words = ("environment", str(python), "--output-reproducible", "--validate")
    _run(sys.executable, "-m", "cyclonedx_py", *words, f"--output-file={into}")
    return into


def _sum(files: list[Path]) -> None:
    """Write SHA256SUMS beside the files, and count it among them."""
    sums = files[0].with_name("SHA256SUMS")
    sums.write_text("".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files))
    files.append(sums)


def _step(text: str) -> None:
    print(f"== {text}", flush=True)


def _run(*words: str, **environ: str) -> None:
    """Run a command, whose output is seen. Raises Refused where it fails."""
    status = subprocess.run(words, check=False, env={**os.environ, **environ}).returncode
    if status:
        raise Refused(f"{shlex.join(words)} ended with status {status}")


def _git(*words: str) -> str:
    ended = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise Refused(f"git {shlex.join(words)}: {ended.stderr.strip()}")
    return ended.stdout.strip()


if __name__ == "__main__":
    main()
