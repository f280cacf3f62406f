"""``make vendor``: takes what the status page has of others out of its npm package, whose checksum is known here."""

import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "uplot@1.6.32"
#: Subresource Integrity of the package, as npm's own files of pinned versions have it.
INTEGRITY = "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw=="
FILES = ("LICENSE", "dist/uPlot.iife.min.js", "dist/uPlot.min.css")

VENDORED = Path(__file__).resolve().parent.parent / "udpservices" / "observe" / "page" / "vendor"
SUMS = "SHA256SUMS"


def integrity(content: bytes) -> str:
    """What `INTEGRITY` is, of these bytes."""
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


def sums(folder: Path) -> str:
    """The checksums of the files in a folder, as sha256sum(1) writes them."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def main() -> int:
    """Fetch the package, compare it, and unpack what the page needs; the exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(scratch).glob("*.tgz")
        found = integrity(archive.read_bytes())
        if found != INTEGRITY:
            print(f"{PACKAGE} is not what it was: it has {found} and not {INTEGRITY}", file=sys.stderr)
            return 1
        VENDORED.mkdir(exist_ok=True)
        with tarfile.open(archive) as package:
            for name in FILES:
                content = package.extractfile(f"package/{name}")
                if content is None:
                    print(f"{PACKAGE} has no {name}", file=sys.stderr)
                    return 1
                (VENDORED / Path(name).name).write_bytes(content.read())
    (VENDORED / SUMS).write_text(sums(VENDORED))
    return 0


if __name__ == "__main__":
    sys.exit(main())
