"""From a name, such as ``package.module.Class`` or ``module:function``, to what it stands for."""

from importlib import import_module
from typing import Any

from udpservices.runtime.protocols.places import told
from udpservices.units import nearest


def named(name: str) -> Any:
    """What a dotted name stands for, or one with a colon between the module and the rest.

    Raises ValueError, its text one line, where there is no such thing.
    """
    module_name, colon, path = name.partition(":")
    parts = name.replace(":", ".", 1).split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise ValueError("must be a dotted name such as package.module.Class, or module:function")
    if colon:
        return _within(_module(module_name), module_name, path.split("."))
    return _dotted(parts, len(parts) - 1)


def _dotted(parts: list[str], count: int) -> Any:
    """What stands for a dotted name whose first parts, so many, may be a module's; if not, fewer are."""
    module_name = ".".join(parts[:count])
    try:
        module = _module(module_name)
    except _NoModuleError:
        outer = ".".join(parts[: count - 1])
        if count == 1 or not hasattr(_module(outer), parts[count - 1]):
            raise
        return _dotted(parts, count - 1)
    return _within(module, module_name, parts[count:])


class _NoModuleError(ValueError):
    """There is no module of this name."""


def _within(module: Any, name: str, path: list[str]) -> Any:
    """An attribute of a module, or of such an attribute."""
    found, what = module, f"module {name}"
    for attribute in path:
        try:
            found = getattr(found, attribute)
        except AttributeError:
            near = nearest(attribute, dir(found))
            raise ValueError(f"{what} has no {attribute}" + (f": did you mean {near}?" if near else "")) from None
        except (Exception, SystemExit) as error:
            raise ValueError(f"{what} does not give its {attribute}: {told(error)}") from error
        name = what = f"{name}.{attribute}"
    return found


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise _NoModuleError(f"there is no module {missing}") from error
        raise ValueError(f"importing {name} failed: {told(error)}") from error
    except (Exception, SystemExit) as error:  # a script may end as soon as it is imported
        raise ValueError(f"importing {name} failed: {told(error)}") from error
