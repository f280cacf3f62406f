"""What people write: the only outcomes are a value and one line that says what is wrong."""

import contextlib
import errno
import functools
import importlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from socket import AF_INET, AF_INET6, AddressFamily
from typing import Any, Literal
from unittest import mock

from twisted.python.usage import UsageError

from tests.fuzz import Target
from udpservices import units
from udpservices.endpoints import EndpointError
from udpservices.endpoints import parse as parse_endpoint
from udpservices.endpoints.stream import inherited_stream, stream_description, tcp_address
from udpservices.endpoints.systemd import ActivationError, parse_environment
from udpservices.maker import DatagramServiceMaker
from udpservices.net import addresses, exchange
from udpservices.options import Mistakes
from udpservices.policy.access import parse_network
from udpservices.runtime.protocols import arguments, lookup
from udpservices.services import tables

#: The commands, as twisted/plugins/udpservices_plugins.py has them.
COMMANDS = {
    "udpecho": "echo.Echo",
    "udptime": "timeservice.Time",
    "udplength": "length.Length",
    "udpdiscard": "discard.Discard",
    "udpserve": "serve.Serve",
    "udpmulticast": "multicast.MulticastPingPong",
    "udpbroadcast": "broadcast.Broadcast",
    "udphello": "hello.Helloer",
    "udpservices": "bundle.Bundle",
}

MAKERS = [DatagramServiceMaker(name, f"udpservices.services.{path}", "") for name, path in COMMANDS.items()]


def read(parser: Callable[[str], Any], text: str, refusal: type[Exception] = ValueError) -> Any:
    """What a parser makes of a text; None after an error of this type, and no other, whose text is one line."""
    try:
        return parser(text)
    except refusal as error:
        line = str(error)
        if not (line and line.isprintable()):
            raise AssertionError(f"no line of text: {line!r}") from error
        return None


def words_of(data: bytes) -> str:
    """A text as Python takes it from a command line."""
    return data.decode("utf-8", "surrogateescape")


def endpoint(data: bytes) -> None:
    found = read(parse_endpoint, words_of(data), EndpointError)
    assert found is None or parse_endpoint(str(found)) == found


def stream(data: bytes) -> None:
    """What is not Twisted's to read is read here; of Twisted's own something is understood, or not."""
    text = words_of(data)
    if read(stream_description, text) is None:
        return
    found = tcp_address(text)
    assert found is None or addresses.is_literal(found[0])
    inherited = inherited_stream(text)
    assert inherited is None or (inherited.name is None) != (inherited.index is None)


_UNITS: Sequence[Callable[[str], Any]] = (
    units.size,
    units.port_number,
    units.probability,
    units.duration,
    units.positive_duration,
    units.ttl,
    units.message,
)


def unit(data: bytes) -> None:
    """A quantity is in its range; an error of theirs does not show the text, the option's error does."""
    text = words_of(data)
    values = [read(parser, text) for parser in _UNITS]
    size, port, share, seconds, positive, hops, _ = values
    assert size is None or size > 0
    assert port is None or 0 <= port <= 65535
    assert share is None or 0 <= share <= 1
    assert seconds is None or 0 <= seconds < float("inf")
    assert positive is None or positive > 0
    assert hops is None or 0 <= hops <= 255
    assert units.one_line(text).isprintable()


def address(data: bytes) -> None:
    """Addresses, and what is done with those that are."""
    text = words_of(data)
    host = _silently(addresses.parse_host, text)
    assert addresses.is_literal(text) == (host is not None)
    target = _silently(addresses.split_target, text)
    assert target is None or 0 < target[1] <= 65535
    for family in (AF_INET, AF_INET6):
        _silently(partial(_target, family), text)
    with contextlib.suppress(OSError):
        addresses.scope_index(text)
    if host is not None:
        shown = addresses.endpoint_text(text, 9).removesuffix(":9")
        if text.isprintable():  # else the log shows what cannot be printed as escapes
            assert addresses.parse_host(shown[1:-1] if ":" in text else shown) == host
        assert isinstance(addresses.is_multicast(text), bool)
        with contextlib.suppress(OSError):
            host.socket_address(9)


def _target(family: AddressFamily, text: str) -> addresses.Host:
    return addresses.parse_target((text, 9), family)


def _called(
    *,
    a: int = 0,
    b: float | None = None,
    c: bool = False,
    d: bytes = b"",
    e: Literal["x", 5] = 5,
    f: list[int] | None = None,
    g: IPv4Address | IPv6Address | None = None,
    h: Decimal = Decimal(0),
    **more: str,
) -> None:
    """What an argument may be for."""


def argument(data: bytes) -> None:
    """``NAME=VALUE`` of whichever kind; a value of it can be called with."""

    def parse(text: str) -> Any:
        found = arguments.bound(_called, [arguments.argument(text)], "")
        assert found is not None
        return _called(*found.args, **found.kwargs)

    read(parse, words_of(data))


def _silently(parser: Callable[[str], Any], text: str) -> Any:
    """As `read`, where the option's error, and not this one, must be one line."""
    try:
        return parser(text)
    except ValueError:
        return None


def environment(data: bytes) -> None:
    """What a parent process left in the environment (sd_listen_fds(3))."""
    values = words_of(data).replace("\0", "").split("\n")
    environ = dict(zip(("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"), values, strict=False))
    found = read(lambda pid: parse_environment(environ, int(pid)), "7", ActivationError)
    assert found is None or len(found) == int(environ["LISTEN_FDS"])


def _only_ours(name: str) -> Any:
    """No module of somebody else's is imported by chance, with whatever it does then."""
    if not name.startswith("udpservices."):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return importlib.import_module(name)


def _no_file(self: Path, encoding: str | None = None) -> str:
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))


def options(data: bytes) -> None:
    """A word a line; the first byte chooses the command."""
    command = list(MAKERS)[data[0] % len(MAKERS)] if data else MAKERS[0]
    words = words_of(data[1:]).replace("\0", "").split("\n")

    def parse(_: str) -> None:
        quiet = contextlib.redirect_stdout(io.StringIO())
        no_file = mock.patch.object(Path, "read_text", _no_file)  # any would be read else, devices too
        mute = mock.patch.object(exchange, "ask", side_effect=exchange.NoReply("no answer"))
        with mock.patch.object(lookup, "import_module", _only_ours), no_file, mute, quiet:
            try:
                command.options().parseOptions(words)
            except SystemExit as ended:
                if ended.code:  # which --help and --version do not have
                    raise

    read(parse, "", UsageError)


@functools.cache
def _file() -> Path:
    descriptor, name = tempfile.mkstemp(suffix=".toml")
    os.close(descriptor)
    return Path(name)


def networks(data: bytes) -> None:
    """A file of networks: each that is read is refused from its first to its last address."""
    path = _file()
    path.write_bytes(data)
    options = MAKERS[0].options()
    try:
        read(lambda name: options.parseOptions(["--deny-file", name]), str(path), UsageError)
    finally:
        path.write_bytes(b"")
    for network in [network for found in options["deny-file"] for network in found]:
        for address in (network.network_address, network.broadcast_address):
            assert options.access.refuses(address.packed), address
        assert parse_network(str(network)) == network


def config(data: bytes) -> None:
    """A file of `udpservices`, whose error names it."""
    path = _file()
    path.write_bytes(data)
    try:
        with (
            mock.patch.object(tables, "_makers", return_value={maker.tapname: maker for maker in MAKERS}),
            mock.patch.object(lookup, "import_module", _only_ours),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            tables.read(path)
    except Mistakes as error:
        for line in error.lines:
            assert line.isprintable(), line
            assert str(path) in line, line
    finally:
        path.write_bytes(b"")


_ENDPOINT_WORDS = [
    *(b"udp:", b"fd:", b"systemd:", b"interface=", b"rcvbuf=", b"device=", b"name=", b"index=", b"9999", b"::1"),
    *(b"\\:", b"\\=", b"\\\\", b"[", b"]", b"%lo", b"fe80::1", b"127.0.0.1", b"4M", b"\xff", b"\xed\xa0\x80"),
]

_NETWORK_WORDS = [b"/", b"/0", b"/33", b"/129", b"::ffff:", b"10.0.0.0/8", b"fe80::/10", b"24,56", b",", b"\xd9\xa3"]

TARGETS = {
    "endpoint": Target(
        endpoint,
        [
            *(b"9999", b"127.0.0.1:9999", b"[::1]:9999", b"[fe80::1%lo]:0", b"fd:3"),
            *(b"systemd:name=echo", b"systemd:index=0", rb"udp:9999:interface=\:\:1:rcvbuf=4M:device=lo"),
        ],
        _ENDPOINT_WORDS,
    ),
    "stream": Target(
        stream, [b"7", b"192.0.2.1:7", b"[::1]:7", b"tcp:7", b"unix:/tmp/x", b"udp:7", b"fd:3"], _ENDPOINT_WORDS
    ),
    "unit": Target(
        unit,
        [b"65536", b"64k", b"4M", b"0.05", b"5%", b"10ms", b"1.5s", b"2m", b"255"],
        [b"us", b"ms", b"s", b"m", b"h", b"k", b"G", b"%", b".", b"99999999999999", b"e9", b"_", b"\xd9\xa3"],
    ),
    "address": Target(
        address,
        [b"127.0.0.1", b"::1", b"fe80::1%lo", b"localhost:9999", b"[::1]:9", b"224.0.0.1", b"ff02::1", b"lo", b"2"],
        [b"%", b"::", b"::ffff:", b"<broadcast>", b"[", b"]", b":", b"255", b"\0", b"99999999999999999999"],
    ),
    "argument": Target(
        argument,
        [b"a=5", b"b=1e3", b"c=yes", b"d=x", b"e=x", b"f=1,2", b"g=::1", b"h=1.5", b"i=x"],
        [b"=", b",", b"none", b"nan", b"_", b"\xd9\xa3", b"\xff", b"\n", b"9" * 5000],
    ),
    "environment": Target(environment, [b"2\n7\necho:echo", b"1\n8", b"", b"0\n7\n"], [b"7", b"\n", b":", b"\xd9\xa3"]),
    "options": Target(
        options,
        [
            b"\0--port\n0\n--interface\n::1\n--drop=5%\n--delay\n10ms\n--seed=1\n--tcp=7",
            b"\0--allow\n192.0.2.0/24\n--deny=2001:db8::/32\n--deny=192.0.2.9\n--rate=9\n--rate-prefix\n32,128\n--burst=5",
            b"\0--allow-file\nnetworks\n--deny-file=/dev/null\n--no-loop-guard\n--allow-broadcast\n--rate-dry-run",
            b"\x04--protocol\nudpservices.services.echo.Echo\n-l\n127.0.0.1:0",
            b"\x05--group\n228.0.0.5\n--source\n192.0.2.1\n--ttl=3\n--ping-interval=1s",
            b"\x06--address\n192.0.2.255\n--interval=1s\n--message\nhello",
            b"\x07--target\n[::1]:9\n--interval=1s\n--max-interval=9s",
            b"\x07--target\n[::1]:9\n--once\n--timeout=1s",
            b"\x08--config\nservices.toml\n--check",
        ],
        [
            *_ENDPOINT_WORDS,
            *_NETWORK_WORDS,
            b"\n--",
            b"\n-",
            b"--help",
            b"--version",
            b"=",
            b"receive-buffer",
            b"no-loopback",
        ],
    ),
    "networks": Target(
        networks,
        [
            b"# ours\n192.0.2.0/24\n\n  2001:db8::/32  # and theirs\n",
            b"\xef\xbb\xbf192.0.2.7\r\n::1\r\n",
            b"0.0.0.0/0\n::/0\n10.0.0.1/8",
        ],
        [*_NETWORK_WORDS, b"#", b"\n", b"\r", b"\x0c", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"\xff"],
    ),
    "config": Target(
        config,
        [
            b'[udpecho]\nport = 9999\n[lossy]\ncommand = "udpecho"\nlisten = ["127.0.0.1:9990"]\ndrop = 0.05\n',
            b'[udphello]\ntarget = "localhost:9"\nmessage = "hi"\n[udpmulticast]\ngroup = ["ff02::5"]\n',
            b'[udpserve]\nprotocol = "udpservices.services.echo.Echo"\n[t]\ncommand = "udptime"\nepoch = "unix"\n',
        ],
        [
            b"[udpecho]\n",
            b"[[udpecho]]\n",
            b"drain = ",
            b"\xef\xbb\xbf",
            b'"',
            b"'",
            b" = ",
            b"true",
            b"1979-05-27",
            b"0x1",
            b"{}",
            b"[",
            b"\n",
        ],
    ),
}
