"""Option groups as mixins, and the one line that a user sees when an option is wrong.

A command's options are a class of groups, most often `DatagramOptions`, which has all that work for responders::

    class Options(DatagramOptions):
        optParameters = [
            ["port", None, 7],  # a shared option may have another default, and nothing else of its own
            ["greeting", "g", "hello", "what to answer"],
        ]

Options are Twisted's own (`twisted.python.usage.Options`), with one difference: what is wrong is one line that
names the option and its value.
"""

import re
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, ClassVar, NamedTuple

from twisted.python import usage

import twisted
import udpservices
from udpservices.endpoints import Endpoint, UDPEndpoint
from udpservices.endpoints import parse as parse_endpoint
from udpservices.transport.addresses import parse_host
from udpservices.units import one_line, port_number, size

Row = Sequence[Any]


def repeated(name: str, coerce: Callable[[str], Any], doc: str) -> Callable[[Any, str], None]:
    """A method ``opt_…`` for an option that may be given several times; ``self[name]`` is the list of values.

    `coerce` turns a word into a value and raises ValueError for what is none.
    """

    def add(self: Any, value: str) -> None:
        self.given.add(name)
        self[name] = [*self[name], coerced(name, coerce, value)]

    add.__doc__ = doc
    return add


def coerced(name: str, coerce: Callable[[str], Any], value: str) -> Any:
    """The value of an option, or a UsageError that names both and says what would be right."""
    try:
        return coerce(value)
    except ValueError as error:
        raise usage.UsageError(f"--{name} {value or repr(value)}: {error}") from error


class _NamedParameter(usage.CoerceParameter):
    """Coerces as Twisted does, but its error names the option, and it remembers what the user gave."""

    def dispatch(self, parameterName: str, value: str) -> None:
        self.options.given.add(parameterName)
        self.options[parameterName] = coerced(parameterName, self.coerce, value)


class ServiceOptions(usage.Options):
    """The options of one command, without any group. Twisted's, but for what a user sees when one is wrong."""

    longdesc = ""

    def __init__(self) -> None:
        """Raises TypeError where a class declares an option that one of its bases has, but for a new default."""
        super().__init__()
        #: The names of the options that the user gave.
        self.given: set[str] = set()
        for name, row in _merged(type(self)).items():
            self.docs[name] = row.doc
            self._dispatch[name] = _NamedParameter(self, row.coerce or str)
        self.longOpt = list(dict.fromkeys(self.longOpt))

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse the words of a command line.

        What is wrong raises UsageError, or SystemExit with one line where these are the options of a subcommand, as
        under twistd: that reaches the caller's standard error, with status 1.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            text = one_line(self._with_suggestion(str(error)))
            if self.parent is None:
                raise usage.UsageError(text) from None
            raise SystemExit(f"{self.parent.subCommand}: {text}") from None

    def _with_suggestion(self, text: str) -> str:
        unknown = re.fullmatch("option --(.+) not recognized", text)
        near = get_close_matches(unknown[1], [name.rstrip("=") for name in self.longOpt], 1) if unknown else []
        return f"{text}: did you mean --{near[0]}?" if near else text

    def parseArgs(self, *args: str) -> None:
        """Refuse words that are no options."""
        if args:
            raise usage.UsageError(f"{args[0]!r} is not expected: give options, such as --port 9999")

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


def _host(text: str) -> str:
    parse_host(text)
    return text


class ListenOptions(ServiceOptions):
    """Where a service listens."""

    optParameters: ClassVar[list[Row]] = [
        ["port", "p", 9999, "UDP port number to listen on, 0 for any free one.", port_number],
        ["receive-buffer", None, None, "Size of each socket's receive buffer in bytes, such as 4M.", size],
    ]
    optFlags: ClassVar[list[Row]] = [
        ["reuse-port", None, "Share the port with other processes of the same user (SO_REUSEPORT)."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["interface"] = []
        self["listen"] = []

    opt_interface = opt_i = repeated(
        "interface",
        _host,
        "IPv4 or IPv6 address to listen on, fe80::1%eth0 too; may repeat. [default: all IPv4 and all IPv6 addresses]",
    )
    opt_listen = opt_l = repeated(
        "listen",
        parse_endpoint,
        "Where to listen, instead of --port and --interface: 9999, 127.0.0.1:9999, [::1]:9999, udp:9999:rcvbuf=4M, "
        "fd:3, systemd:name=NAME or systemd:index=0; may repeat.",
    )

    def postOptions(self) -> None:
        """Refuse the two spellings together."""
        super().postOptions()
        other = sorted(self.given & {"port", "interface"})
        if self["listen"] and other:
            raise usage.UsageError(f"--{other[0]} and --listen are two spellings of one thing: give one of them")

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the user wants the service to listen."""
        return self["listen"] or [UDPEndpoint(self["port"], tuple(self["interface"]))]


class RunOptions(ServiceOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]


class DatagramOptions(ListenOptions, RunOptions):
    """All shared options: what a protocol without options of its own has."""
