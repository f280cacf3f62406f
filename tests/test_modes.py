"""What each run of the suite has (tests/modes.py)."""

import pytest

from tests import modes
from tests.modes import MODES, TESTS
from tests.support import BIN, ROOT, run

FILES = sorted(path.relative_to(TESTS) for path in TESTS.rglob("test_*.py"))


@pytest.mark.parametrize("name", ["LONG", "NOT_LONG", "ONCE", "GUARD", "GROUPS", "OLDEST"])
def test_lists_name_what_is_there(name: str) -> None:
    listed = getattr(modes, name)
    assert [one for one in listed if not (TESTS / one).exists()] == []
    assert len(set(listed)) == len(listed)


def test_each_file_is_in_one_of_two_modes() -> None:
    assert all(MODES["unit"](path) != MODES["long"](path) for path in FILES)


def test_modes_have_what_their_names_say() -> None:
    shorter = [path for path in FILES if MODES["unsegmented"](path)]
    assert set(shorter) < {path for path in FILES if MODES["unbatched"](path)}
    assert all(any(MODES[name](path) for path in FILES) for name in MODES)


def test_pytest_collects_a_mode() -> None:
    """One folder, of which a file is in the mode and the others are not."""
    options = ("--collect-only", "-q", "-n0", "--mode", "unit", "tests/workers")
    collected = run(BIN / "pytest", *options, cwd=ROOT, timeout=60)
    found = {line.partition("::")[0] for line in collected.stdout.splitlines() if "::" in line}
    assert found == {"tests/workers/test_serving.py"}, collected.stdout
