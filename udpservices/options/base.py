"""What all options share: coercion, one line when something is wrong, and shared options that stay shared."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple, Self

from twisted.python import usage

import twisted
import udpservices
from udpservices.net import files
from udpservices.options import twistd
from udpservices.units import nearest, one_line

Row = Sequence[Any]


def repeated(name: str, coerce: Callable[[str], Any], doc: str) -> Callable[[Any, str], None]:
    """A method ``opt_…`` for an option that may be given several times; ``self[name]`` is the list of values.

    The class makes that list in its ``__init__``, ``self[name] = []``.
    `coerce` turns a word into a value and raises ValueError for what is none.
    """

    def add(self: Any, value: str) -> None:
        self.given.add(name)
        self[name].append(coerced(name, coerce, value))

    add.__doc__ = doc
    return add


def coerced(name: str, coerce: Callable[[str], Any], value: str) -> Any:
    """The value of an option, or a UsageError that names both and says what would be right."""
    try:
        return coerce(value)
    except ValueError as error:
        raise usage.UsageError(f"--{name} {value or repr(value)}: {error}") from error


class Mistakes(usage.UsageError):
    """What is wrong with a command line, or with a file: a line for each mistake."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines` may hold any text; they are kept as an error may show them."""
        self.lines = tuple(map(one_line, lines))
        super().__init__("\n".join(self.lines))


class _NamedParameter(usage.CoerceParameter):
    """Coerces as Twisted does, but its error names the option, and it remembers what the user gave."""

    def dispatch(self, parameterName: str, value: str) -> None:
        self.options.given.add(parameterName)
        self.options[parameterName] = coerced(parameterName, self.coerce, value)


class ServiceOptions(usage.Options):
    """The options of one command, without any group. Twisted's, but for what a user sees when one is wrong."""

    longdesc = ""

    #: Options that say what this one process is to do, instead of how a service is to run: they stand in no file.
    of_command_line: ClassVar[frozenset[str]] = frozenset({"help", "version"})

    def __init__(self) -> None:
        """Raises TypeError where a class declares an option that one of its bases has, but for a new default."""
        super().__init__()
        #: What the log calls the service; None stands for the command's name.
        self.label: str | None = None
        #: The words that were parsed.
        self.words: tuple[str, ...] = ()
        #: The names of the options that the user gave.
        self.given: set[str] = set()
        for name, row in _merged(type(self)).items():
            self.docs[name] = row.doc
            self._dispatch[name] = _NamedParameter(self, row.coerce or str)
        self.longOpt = list(dict.fromkeys(self.longOpt))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the words of a command line.

        What is wrong raises Mistakes, or SystemExit with a line for each where these are the options of a subcommand,
        as under twistd: that reaches the caller's standard error, with status 1.
        """
        self.words = tuple(sys.argv[1:] if options is None else options)
        try:
            super().parseOptions(options)
            if self.parent is not None:
                twistd.prepare(self.parent)
        except usage.UsageError as error:
            known = error if isinstance(error, Mistakes) else Mistakes([self._with_suggestion(str(error))])
            if self.parent is None:
                raise known from None
            raise SystemExit("\n".join(f"{self.parent.subCommand}: {line}" for line in known.lines)) from None

    def again(self) -> Self:
        """The options of the same words, which may name files that have changed: no pipe is waited for.

        Raises ValueError.
        """
        fresh = type(self)()
        fresh.label = self.label
        try:
            with files.at_once():
                fresh.parseOptions(self.words)
        except usage.UsageError as error:
            raise ValueError(str(error)) from error
        return fresh

    def _with_suggestion(self, text: str) -> str:
        unknown = re.fullmatch("option --(.+) not recognized", text)
        near = nearest(unknown[1], [name.rstrip("=") for name in self.longOpt]) if unknown else None
        return f"{text}: did you mean --{near}?" if near else text

    def parseArgs(self, *args: str) -> None:
        """Refuse words that are no options."""
        if args:
            raise usage.UsageError(f"{args[0]!r} is not expected: give options, such as --port 9999")

    def check_protocol(self, protocol: Any) -> None:
        """Refuse options that have no effect on a protocol, given as its class. Raises UsageError.

        The options of a command do not know its protocol before it is looked up, so this is no part of `postOptions`.
        """

    def opt_version(self) -> None:
        """Display the versions of udpservices and Twisted and exit."""
        print(f"udpservices {udpservices.__version__}, Twisted {twisted.__version__}")
        sys.exit(0)


class _Row(NamedTuple):
    """A line of ``optParameters``."""

    short: str | None
    doc: str | None
    coerce: Callable[[str], Any] | None


def _merged(options: type) -> dict[str, _Row]:
    """The parameters of a class of options, each as it was declared first; what else shares a name is refused."""
    rows: dict[str, _Row] = {}
    claimed: dict[str, type] = {}

    def claim(name: str | None, declarer: type) -> None:
        if name and claimed.setdefault(name, declarer) is not declarer:
            dashes = "-" if len(name) == 1 else "--"
            raise TypeError(f"{options.__qualname__}: {dashes}{name} is a shared option; only its default may change")

    for declarer in reversed(options.__mro__):
        declared = vars(declarer)
        for line in declared.get("optParameters", ()):
            name, short, _, doc, coerce = [*line, *[None] * 5][:5]
            row = _Row(short, doc, coerce)
            if name in rows and all(own in (None, shared) for own, shared in zip(row, rows[name], strict=True)):
                continue
            claim(name, declarer)
            claim(short, declarer)
            rows[name] = row
        for name, short, *_ in declared.get("optFlags", ()):
            claim(name, declarer)
            claim(short, declarer)
        for method in declared:
            if method.startswith("opt_") and method not in ("opt_help", "opt_version"):
                claim(method[4:].replace("_", "-"), declarer)
    return rows
