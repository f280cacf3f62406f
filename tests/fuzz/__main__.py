"""``make fuzz``: tries each target for its share of the time, and names the file of whatever gets through.

::

    python -m tests.fuzz [--seconds N] [TARGET …]   # N for all of them together
    python -m tests.fuzz TARGET --again FILE        # what was found, once more, with its traceback
"""

import argparse
import hashlib
import importlib.util
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.fuzz import mutated
from tests.fuzz.targets import TARGETS

#: Where what was found is kept.
FOUND = Path("fuzz-found")


def main() -> int:
    """0 where nothing gets through, 1 where something does."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for what gets through.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all together (default: 60)")
    parser.add_argument("--again", type=Path, metavar="FILE", help="try the target with this file, and nothing else")
    parser.add_argument("--unguided", action="store_true", help="do without atheris")
    chosen = parser.parse_args()
    if unknown := set(chosen.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    names = chosen.targets or list(TARGETS)
    if chosen.again:
        TARGETS[names[0]].check(chosen.again.read_bytes())
        return 0
    guided = importlib.util.find_spec("atheris") is not None and not chosen.unguided
    print("guided by coverage" if guided else "at random, without atheris", flush=True)
    FOUND.mkdir(exist_ok=True)
    attempt = _guided if guided else _at_random
    held = [attempt(name, chosen.seconds / len(names)) for name in names]
    if not any(FOUND.iterdir()):
        FOUND.rmdir()
    return int(not all(held))


def _guided(name: str, seconds: float) -> bool:
    """Have atheris try; whether nothing got through."""
    with tempfile.TemporaryDirectory() as corpus:
        words = [name, str(max(round(seconds), 1)), corpus, str(FOUND)]
        command = [sys.executable, "-m", "tests.fuzz.guided", *words]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if ended.returncode == 0:
        runs = re.search(r"Done (\d+) runs", ended.stderr)
        print(f"{name}: nothing in {runs[1] if runs else 'no'} tries", flush=True)
        return True
    kept = re.search(r"written to (\S+)", ended.stderr)
    print(f"{name}: {kept[1] if kept else 'no file'}\n{ended.stdout[-4000:]}{ended.stderr[-500:]}", flush=True)
    return False


def _at_random(name: str, seconds: float) -> bool:
    """Try what is near the seeds; whether nothing got through."""
    chance, target = random.Random(), TARGETS[name]
    end = time.monotonic() + seconds
    tries = 0
    while time.monotonic() < end:
        data = mutated(target, chance)
        tries += 1
        try:
            target.check(data)
        except Exception:
            kept = FOUND / f"{name}-{hashlib.sha256(data).hexdigest()[:40]}"
            kept.write_bytes(data)
            print(f"{name}: {kept}\n{traceback.format_exc()}", flush=True)
            return False
    print(f"{name}: nothing in {tries} tries", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
