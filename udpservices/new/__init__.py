"""``udpservices new NAME``: a folder with a service of one's own that runs, its tests, its unit and its package."""

import importlib.util
import keyword
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.python.usage import UsageError

#: What each file of a project is made of. ``@name@`` stands for the project's name, ``@Class@`` for the protocol's.
FILES = {
    ".gitignore": "gitignore.in",
    "README.md": "README.md.in",
    "pyproject.toml": "pyproject.toml.in",
    "test_@name@.py": "test.py.in",
    "twisted/plugins/@name@_plugins.py": "plugin.py.in",
    "@name@.py": "module.py.in",
    "@name@.service": "unit.service.in",
}

USAGE = """Usage: udpservices new NAME

Makes a folder NAME with a UDP service that runs: its protocol, its tests, a line that makes the command NAME of it, a
unit for systemd, and what pip needs."""

_DONE = """{name}/ has:
{files}

    cd {name}
    pip install --editable '.[test]'
    pytest
    udpservices {name} --port 9999
"""


def main(words: Sequence[str]) -> int:
    """Make the folder that the words name; the exit status. Raises UsageError with a line for a mistake."""
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    if len(words) != 1:
        raise UsageError("give one NAME, such as udpcaesar" if not words else f"{words[1]!r} is not expected")
    name = words[0]
    _check(name)
    made = _make(Path(name), name)
    print(_DONE.format(name=name, files="\n".join(f"    {path}" for path in made)))
    return 0


def _check(name: str) -> None:
    """Refuse what cannot be the name of a command, of a module and of a package alike."""
    if re.fullmatch("[a-z][a-z0-9_]*", name, re.ASCII) is None or keyword.iskeyword(name):
        near = re.sub("[^a-z0-9_]+", "_", name.lower()).strip("_0123456789")
        hint = f": {near}, say" if near and not keyword.iskeyword(near) else ""
        raise UsageError(f"{name!r} cannot name a module: take small letters, digits and _{hint}")
    if Path(name).exists():
        raise UsageError(f"{name} is there already")
    if name in {maker.tapname for maker in getPlugins(IServiceMaker)}:
        raise UsageError(f"there is a command {name} already")
    if importlib.util.find_spec(name) is not None:
        raise UsageError(f"there is a module {name} already, which would be hidden")


def _make(folder: Path, name: str) -> list[str]:
    """Write the files; their paths. Raises UsageError where that cannot be done."""
    template = files("udpservices.new") / "template"
    values = {"@name@": name, "@Class@": _class_name(name)}
    made = []
    try:
        for path, source in FILES.items():
            target = folder / _filled(path, values)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(_filled((template / source).read_text(), values))
            made.append(str(target.relative_to(folder)))
    except OSError as error:
        raise UsageError(f"cannot write {error.filename}: {error.strerror}") from error
    return sorted(made)


def _class_name(name: str) -> str:
    """``udp_time`` is `Time`."""
    words = [word for word in name.removeprefix("udp").split("_") if word] or [name]
    found = "".join(word.capitalize() for word in words)
    return found if found[0].isalpha() else f"Udp{found}"


def _filled(text: str, values: dict[str, str]) -> str:
    for word, value in values.items():
        text = text.replace(word, value)
    return text
