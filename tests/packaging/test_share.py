"""`udpservices share`: where the files are that came with it."""

from pathlib import Path

import pytest

from tests.packaging.environment import Environment, succeeded
from tests.support import BIN, ROOT, run
from udpservices.share import LISTED


def _share(*words: str) -> tuple[int, str, str]:
    ended = run(BIN / "udpservices", "share", *words)
    return ended.returncode, ended.stdout, ended.stderr


def test_a_wheel_brings_them(installed: Environment) -> None:
    """What it prints is there, in the environment's own folder."""
    listed = succeeded(installed.run("udpservices", "share")).splitlines()[::2]
    assert [path.removeprefix(f"{installed.site_packages}/udpservices/share/") for path in listed] == list(LISTED)
    assert all(Path(path).is_dir() for path in listed)


def test_units_of_a_wheel(installed: Environment) -> None:
    """For ``cp "$(udpservices share config/systemd)"/udpecho.* /etc/systemd/system``."""
    units = Path(succeeded(installed.run("udpservices", "share", "config/systemd")).strip())
    assert {path.name for path in units.iterdir()} == {path.name for path in (ROOT / "config" / "systemd").iterdir()}


def test_sample_configuration_of_a_wheel_is_right(installed: Environment) -> None:
    sample = succeeded(installed.run("udpservices", "share", "config/udpservices.toml")).strip()
    checked = succeeded(installed.run("udpservices", "--config", sample, "--check"))
    assert checked.endswith("all options right\n")


def test_a_checkout_has_them_beside_the_package() -> None:
    assert _share("docs") == (0, f"{ROOT / 'docs'}\n", "")
    assert _share("config/udpservices.toml") == (0, f"{ROOT / 'config' / 'udpservices.toml'}\n", "")


def test_help() -> None:
    status, shown, _ = _share("--help")
    assert (status, shown.startswith("Usage: udpservices share [PATH]\n")) == (0, True)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("config/systmd",), "there is no 'config/systmd': did you mean 'config/systemd'?"),
        (
            ("/",),
            "there is no '/': try one of docs, config, config/systemd, config/logrotate, examples",
        ),
        (("docs", "config"), "'config' is not expected: give one PATH"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], line: str) -> None:
    assert _share(*words) == (1, "", f"udpservices share: {line}\n")


def test_what_is_elsewhere_is_not_told() -> None:
    status, shown, told = _share("../../../../../../../etc")
    assert (status, shown) == (1, "")
    assert "there is no" in told
