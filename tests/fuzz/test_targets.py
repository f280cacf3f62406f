"""A moment of what ``make fuzz`` does for longer, so that neither rots."""

import importlib.util
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import Target, __main__
from tests.fuzz.targets import TARGETS
from tests.support import ROOT, run
from tests.test_docs import recipe

targets = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)


@targets
def test_seeds(target: Target) -> None:
    for data in target.seeds:
        target.check(data)


@targets
def test_what_is_near_them(target: Target) -> None:
    """The same each time: what is new is for ``make fuzz`` to find."""
    pieces = st.one_of(st.sampled_from([*target.seeds, *target.words]), st.binary(max_size=40))

    @settings(max_examples=200, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.lists(pieces, max_size=6))
    def holds(parts: list[bytes]) -> None:
        target.check(b"".join(parts))

    holds()


class TestCommand:
    """``python -m tests.fuzz``"""

    @pytest.mark.parametrize("guided", [False, True] if importlib.util.find_spec("atheris") else [False])
    def test_all_targets_hold(self, guided: bool, tmp_path: Path) -> None:
        """Guided by coverage too where atheris is installed, which it need not be for the tests."""
        names = ["control"] if guided else list(TARGETS)
        words = ["--seconds", "1", *([] if guided else ["--unguided"]), *names]
        ended = run(sys.executable, "-m", "tests.fuzz", *words, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
        assert ended.returncode == 0, ended.stdout + ended.stderr
        mode, *lines = ended.stdout.splitlines()
        assert mode == ("guided by coverage" if guided else "at random, without atheris")
        assert [line.partition(": nothing in ")[0] for line in lines] == names
        assert not any(tmp_path.iterdir())

    def test_make(self) -> None:
        """Bounded in time, unless told."""
        assert recipe("fuzz")[-1].split() == [".venv/bin/python", "-m", "tests.fuzz", "--seconds", "60"]

    def test_what_gets_through_is_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """In a file that is named, and that shows it again."""

        def check(data: bytes) -> None:
            if data != b"seed":
                raise ZeroDivisionError

        def main(*words: str) -> int:
            monkeypatch.setattr(sys, "argv", ["fuzz", *words])
            return __main__.main()

        monkeypatch.chdir(tmp_path)
        monkeypatch.setitem(TARGETS, "leaking", Target(check, [b"seed"]))
        assert main("leaking", "--seconds", "10", "--unguided") == 1
        (found,) = (tmp_path / "fuzz-found").iterdir()
        out = capsys.readouterr().out
        assert f"leaking: fuzz-found/{found.name}\n" in out
        assert "ZeroDivisionError" in out
        with pytest.raises(ZeroDivisionError):
            main("leaking", "--again", str(found))
