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

import attrs
from twisted.python import usage

import twisted
import udpservices
from udpservices.endpoints import Endpoint, UDPEndpoint
from udpservices.endpoints import parse as parse_endpoint
from udpservices.policy.impairment import Impairment
from udpservices.streams import stream_description
from udpservices.transport.addresses import is_multicast, is_wildcard, parse_host
from udpservices.units import duration, one_line, port_number, probability, size

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
        #: What the log calls the service; None stands for the command's name.
        self.label: str | None = None
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


def _stream(text: str) -> str:
    stream_description(text)
    return text


def _whole_number(text: str) -> int:
    if re.fullmatch("-?[0-9]{1,18}", text, re.ASCII) is None:
        raise ValueError("must be a whole number")
    return int(text)


def _interface(text: str) -> str:
    if not text or "\0" in text or "/" in text:
        raise ValueError("must be the name, the index or an address of a network interface")
    return text


class SocketOptions(ServiceOptions):
    """The sockets of a service, but for which of this host's addresses they have."""

    #: The options that ``--listen`` stands in for.
    spelled_by_listen: ClassVar[set[str]] = {"port"}

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

    opt_listen = opt_l = repeated(
        "listen",
        parse_endpoint,
        "Where to listen, instead of --port and --interface: 9999, 127.0.0.1:9999, [::1]:9999, udp:9999:rcvbuf=4M, "
        "fd:3, systemd:name=NAME or systemd:index=0; may repeat.",
    )

    def postOptions(self) -> None:
        """Refuse the two spellings together."""
        super().postOptions()
        other = sorted(self.given & self.spelled_by_listen)
        if self["listen"] and other:
            raise usage.UsageError(f"--{other[0]} and --listen are two spellings of one thing: give one of them")


class ListenOptions(SocketOptions):
    """Where a service listens."""

    spelled_by_listen: ClassVar[set[str]] = {"port", "interface"}

    opt_interface = opt_i = repeated(
        "interface",
        _host,
        "IPv4 or IPv6 address to listen on, fe80::1%eth0 too; may repeat. [default: all IPv4 and all IPv6 addresses]",
    )

    @property
    def endpoints(self) -> list[Endpoint]:
        """Where the user wants the service to listen."""
        return self["listen"] or [UDPEndpoint(self["port"], tuple(self["interface"]))]


class ImpairmentOptions(ServiceOptions):
    """A lossy network on purpose, to test clients."""

    optParameters: ClassVar[list[Row]] = [
        ["drop", None, 0.0, "Probability of losing a datagram, such as 0.05 or 5%.", probability],
        ["duplicate", None, 0.0, "Probability that a datagram arrives twice.", probability],
        ["reorder", None, 0.0, "Probability that a datagram is overtaken by the next one.", probability],
        ["delay", None, 0.0, "How late every datagram arrives, such as 10ms.", duration],
        ["seed", None, None, "Whole number that makes these repeatable.", _whole_number],
    ]

    @property
    def impairment(self) -> Impairment:
        """How the network is to misbehave."""
        return Impairment(self["drop"], self["duplicate"], self["reorder"], self["delay"], self["seed"])


class RunOptions(ServiceOptions):
    """How a service runs."""

    optFlags: ClassVar[list[Row]] = [
        ["log-datagrams", None, "Log each datagram received, the payload cut at 64 bytes."],
    ]


class StreamOptions(ServiceOptions):
    """For protocols that are served over TCP too."""

    optParameters: ClassVar[list[Row]] = [
        [
            "tcp",
            None,
            None,
            "Serve TCP too: at a port number (on loopback), 192.0.2.1:7, [::1]:7 or a Twisted endpoint such as tcp:7.",
            _stream,
        ],
    ]


class DatagramOptions(ListenOptions, ImpairmentOptions, RunOptions):
    """All shared options: what a protocol without options of its own has."""


class MemberOptions(SocketOptions, ImpairmentOptions, RunOptions):
    """The shared options of members of groups, who share their port number with others on every address."""

    opt_interface = opt_i = repeated(
        "interface",
        _interface,
        "Network interface to use, by name, index or address; may repeat. [default: the system's choice]",
    )

    def postOptions(self) -> None:
        """A socket that is bound to an address of this host hears nothing that was sent to many."""
        super().postOptions()
        for endpoint in self["listen"]:
            for address in getattr(endpoint, "interfaces", ()):
                if not (is_wildcard(address) or is_multicast(address)):
                    raise usage.UsageError(
                        f"--listen {endpoint}: hears no group and no broadcast: choose the interface with --interface"
                    )

    def shared_endpoints(self, hosts: Sequence[str]) -> list[Endpoint]:
        """Where the user wants the member to listen: at these wildcards, unless an endpoint has others."""
        return [
            attrs.evolve(endpoint, interfaces=endpoint.interfaces or tuple(hosts), shared=True)
            if isinstance(endpoint, UDPEndpoint)
            else endpoint
            for endpoint in self["listen"] or [UDPEndpoint(self["port"])]
        ]
