"""One target under atheris, in a process of its own, which libFuzzer ends: ``TARGET SECONDS CORPUS FOUND``."""

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

with atheris.instrument_imports(include=["udpservices"]):
    from tests.fuzz.targets import TARGETS

#: The longest input, in bytes: what is longer shows nothing new.
LONGEST = 4096


def main(name: str, seconds: str, corpus: Path, found: Path) -> None:
    """Try a target from its seeds on; what gets through is written to the folder `found`, and its path to stderr."""
    target = TARGETS[name]
    seeds = corpus / "seeds"
    seeds.mkdir()
    for number, data in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(data)
    words = corpus / "words"
    escaped = ["".join(map(r"\x{:02x}".format, word)) for word in target.words]
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=10", "-rss_limit_mb=2048"]
    atheris.Setup([name, *limits, f"-artifact_prefix={found}/{name}-", f"-dict={words}", str(seeds)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
