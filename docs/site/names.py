"""The public names, as the source has them: nothing is imported."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: The modules whose names are for everybody: those in ``__all__``, or where there is none, all without an underscore.
MODULES = [
    "udpservices",
    "udpservices.options",
    "udpservices.net",
    "udpservices.testing",
    "udpservices.pytest_plugin",
    "udpservices.aio",
    "udpservices.reactors",
]

_REACTORS = ("epoll", "poll", "select", "asyncio", "uvloop")


def public_names(module: str) -> list[str]:
    """The names of a module that are public, with the module's own before each."""
    if module == "udpservices.reactors":
        return [f"{module}.{name}" for name in _REACTORS]
    tree = ast.parse(_source(module).read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return [f"{module}.{name}" for name in ast.literal_eval(node.value)]
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [f"{module}.{name}" for name in defined if not name.startswith("_")]


def module_of(path: Path) -> str:
    """The name under which a Python file of the project, relative to its root, is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _source(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
