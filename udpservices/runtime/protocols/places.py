"""Where in somebody's code a mistake is: a file and a line, as compilers write them."""

import ast
import inspect
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from udpservices.units import one_line

_OURS = str(Path(__file__).parent.parent)


class Mistake(ValueError):
    """What is wrong with a protocol that somebody wrote. Its text is one line."""

    def __init__(self, what: str, place: str | None = None) -> None:
        """`place` is a file and a line, as the functions below give it; None where that is not known."""
        super().__init__(one_line(f"{what} ({place})" if place else what))


def shown(file: str, line: int) -> str:
    """A file and a line; the file by its path from the current folder, where it is in there."""
    with suppress(OSError, ValueError):
        file = str(Path(file).resolve().relative_to(Path.cwd()))
    return f"{file}:{line}"


def name_of(thing: Any) -> str:
    """What people call a class, or something that can be called."""
    return str(getattr(_function(thing), "__qualname__", None) or type(thing).__qualname__)


def place_of(thing: Any, attribute: str | None = None) -> str | None:
    """Where a class or a function stands, or an attribute of a class or of an instance. None where nobody knows."""
    if attribute is None and not isinstance(thing, type):
        code = getattr(_function(thing), "__code__", None) or getattr(type(thing).__call__, "__code__", None)
        return shown(code.co_filename, code.co_firstlineno) if code else None
    owner = thing if isinstance(thing, type) else type(thing)
    if attribute is not None:
        owner = next((one for one in owner.__mro__ if attribute in vars(one)), owner)
    file = getattr(sys.modules.get(owner.__module__), "__file__", None)
    if file is None:
        return None
    try:
        node = _class_node(ast.parse(Path(file).read_bytes()), owner.__qualname__)
    except (OSError, SyntaxError, ValueError):
        return None
    lines = [child.lineno for child in node.body if attribute in _names(child)] if node else []
    return shown(file, lines[-1] if lines else node.lineno) if node else None


def _function(thing: Any) -> Any:
    while isinstance(thing, partial):
        thing = thing.func
    return inspect.unwrap(getattr(thing, "__func__", thing))


def _class_node(tree: ast.Module, qualname: str) -> ast.ClassDef | None:
    found: Any = tree
    for part in qualname.replace("<locals>.", "").split("."):
        kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = next((node for node in ast.walk(found) if isinstance(node, kinds) and node.name == part), None)
        if found is None:
            return None
    return found if isinstance(found, ast.ClassDef) else None


def _names(node: ast.stmt) -> list[str]:
    """What a statement in the body of a class gives a value to."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def told(error: BaseException) -> str:
    """An exception in a line: its kind, its text, and where in its author's code it was raised."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({shown(error.filename, error.lineno or 1)})"
    import sysconfig  # only mistakes need it

    libraries = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    text = " ".join(f"{type(error).__name__}: {error}".split())
    places = list(_frames(error.__traceback__))
    own = [place for place in places if not place[0].startswith(libraries)] or places
    return f"{text} ({shown(*own[-1])})" if own else text


def _frames(trace: TracebackType | None) -> Iterator[tuple[str, int]]:
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(("<", _OURS)):
            yield file, trace.tb_lineno
        trace = trace.tb_next
