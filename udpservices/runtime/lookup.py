"""From ``package.module.Class`` to a protocol class."""

from importlib import import_module
from typing import Any

from twisted.internet.protocol import AbstractDatagramProtocol

from udpservices.units import nearest


def protocol_class(name: str) -> type[AbstractDatagramProtocol]:
    """The datagram protocol of this dotted name.

    Raises ValueError, its text one line, where the name cannot be imported, is no class, or is no DatagramProtocol.
    """
    found = named_class(name)
    if not issubclass(found, AbstractDatagramProtocol):
        raise ValueError(f"{name} is no subclass of twisted.internet.protocol.DatagramProtocol")
    return found


def named_class(name: str) -> type:
    """The class of this dotted name. Raises ValueError, its text one line, where there is none."""
    module_name, _, class_name = name.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("must be a dotted name such as package.module.Class")
    module = _module(module_name)
    try:
        found = getattr(module, class_name)
    except AttributeError:
        near = nearest(class_name, dir(module))
        hint = f": did you mean {near}?" if near else ""
        raise ValueError(f"module {module_name} has no {class_name}{hint}") from None
    if not isinstance(found, type):
        raise ValueError(f"{name} is no class")
    return found


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise ValueError(f"there is no module {missing}") from error
        raise ValueError(f"importing {name} failed: {_one_line(error)}") from error
    except (Exception, SystemExit) as error:  # a script may end as soon as it is imported
        raise ValueError(f"importing {name} failed: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
