"""What people write, read: endpoints, sizes, port numbers, and what systemd put into the environment."""

import re
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from udpservices.endpoints import DescriptorEndpoint, EndpointError, SystemdEndpoint, UDPEndpoint, parse
from udpservices.endpoints.activation import ActivationError, Inherited, parse_environment
from udpservices.endpoints.grammar import escape
from udpservices.units import one_line, port_number, size

#: As many examples as a second or two allow; no deadline, because a machine may be busy.
thorough = settings(max_examples=300, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])

#: Every character that Python knows, lone surrogates (undecodable bytes of a command line) and NUL among them.
ANYTHING = st.text(st.characters(exclude_categories=()))

#: What texts that nearly mean something are made of.
PIECES = [
    *("udp", "fd", "systemd", "UDP", "interface", "rcvbuf", "device", "name", "index"),
    *(":", "=", "\\", "[", "]", "%", ",", "/", " "),
    *("::1", r"\:\:1", "fe80::1", "127.0.0.1", "localhost", "lo", "4M", "0", "3", "9999", "99999", "-1"),
    *("\0", "\n", "\r", "\u2028", "\x1b", "\u0663", "\u00b2", "\ud800", "\udcff", "é"),
]

TEXTS = st.one_of(ANYTHING, st.lists(st.one_of(st.sampled_from(PIECES), ANYTHING)).map("".join))

PORTS = st.integers(0, 65535)


def names(longest: int) -> st.SearchStrategy[str]:
    """Names of interfaces and of systemd's sockets, with all that the grammar uses for itself."""
    characters = st.one_of(st.sampled_from(r":=\%[]-.@, "), st.characters(categories=["L", "N", "P"], codec="ascii"))
    return st.text(characters, min_size=1, max_size=longest)


IPV4 = st.ip_addresses(v=4).map(str)
IPV6 = st.ip_addresses(v=6).map(str)
SCOPED = st.builds("{}%{}".format, IPV6, names(15).filter(lambda name: "%" not in name))
INTERFACES = st.one_of(IPV4, IPV6, SCOPED)


def bracketed(interface: str) -> str:
    return f"[{interface}]" if ":" in interface else interface


@st.composite
def with_keys(draw: st.DrawFn) -> str:
    """``udp:…`` as it is written when the short spellings do not do."""
    words = [f"interface={escape(draw(INTERFACES))}"] if draw(st.booleans()) else []
    size_and_device = draw(st.sampled_from(["rcvbuf", "device", "both"]))
    if size_and_device != "device":
        words.append(f"rcvbuf={draw(st.integers(1, 1 << 31))}")
    if size_and_device != "rcvbuf":
        words.append(f"device={escape(draw(names(15)))}")
    return ":".join(["udp", str(draw(PORTS)), *words])


CANONICAL = st.one_of(
    PORTS.map(str),
    st.builds("{}:{}".format, INTERFACES.map(bracketed), PORTS),
    with_keys(),
    st.builds("fd:{}".format, st.integers(0, 999_999_999)),
    st.builds("systemd:index={}".format, st.integers(0, 999_999_999)),
    st.builds("systemd:name={}".format, names(255).map(escape)),
)


Value = TypeVar("Value")


def is_one_line(message: str) -> bool:
    """Whether a terminal shows a message in a line and does nothing else."""
    return bool(message) and message.isprintable()


def read_or_refused(read: Callable[[], Value], refusal: type[ValueError]) -> Value | None:
    """What was read, or None after an error of this type, and no other, whose text is one line."""
    try:
        return read()
    except refusal as error:
        if not is_one_line(str(error)):
            pytest.fail(f"no line of text: {str(error)!r}")
        return None


class TestEndpoints:
    """`parse` and ``str()``."""

    @thorough
    @given(CANONICAL)
    def test_written_as_read(self, text: str) -> None:
        """The log, an error and a test can show an endpoint as the operator wrote it."""
        assert str(parse(text)) == text

    @thorough
    @given(st.sampled_from(["", "udp:9999:", "fd:", "systemd:"]), TEXTS)
    def test_any_text_is_an_endpoint_or_one_line(self, kind: str, text: str) -> None:
        """Whatever comes from a command line or a file is no traceback, no terminal escape and no second line."""
        endpoint = read_or_refused(lambda: parse(kind + text), EndpointError)
        assert endpoint is None or parse(str(endpoint)) == endpoint

    @thorough
    @given(st.permutations([r"interface=\:\:1", "rcvbuf=64k", "device=lo"]))
    def test_keys_go_in_any_order(self, words: list[str]) -> None:
        assert parse(":".join(["udp:9999", *words])) == UDPEndpoint(9999, ("::1",), 65536, "lo")

    @thorough
    @given(names(15))
    def test_escaped_value_is_taken_as_it_is(self, name: str) -> None:
        """A backslash before ``:``, ``=`` or another backslash is enough for every name."""
        assert parse(f"systemd:name={escape(name)}") == SystemdEndpoint(name)
        assert parse(f"udp:0:device={escape(name)}") == UDPEndpoint(0, device=name)

    def test_written_so_that_twisted_reads_the_same(self) -> None:
        """All that its grammar uses is escaped, also where ours could do without."""
        assert str(UDPEndpoint(0, device="a=b:c\\")) == r"udp:0:device=a\=b\:c\\"
        assert str(SystemdEndpoint("a=b")) == r"systemd:name=a\=b"

    @pytest.mark.parametrize(
        ("text", "endpoint"),
        [
            ("9999", UDPEndpoint(9999)),
            ("udp:9999", UDPEndpoint(9999)),
            ("127.0.0.1:0", UDPEndpoint(0, ("127.0.0.1",))),
            ("[::1]:9999", UDPEndpoint(9999, ("::1",))),
            ("[fe80::1%eth0]:9999", UDPEndpoint(9999, ("fe80::1%eth0",))),
            ("[fe80::1%2]:9999", UDPEndpoint(9999, ("fe80::1%2",))),
            (r"udp:9999:interface=\:\:1", UDPEndpoint(9999, ("::1",))),
            (r"udp:9999:interface=fe80\:\:1%eth0", UDPEndpoint(9999, ("fe80::1%eth0",))),
            ("udp:9999:rcvbuf=4M", UDPEndpoint(9999, (), 4 << 20)),
            (r"udp:9999:device=eth0\:1", UDPEndpoint(9999, device="eth0:1")),
            ("udp:9999:device=a=b", UDPEndpoint(9999, device="a=b")),
            (r"udp:9999:device=a\=b\\", UDPEndpoint(9999, device="a=b\\")),
            ("fd:3", DescriptorEndpoint(3)),
            ("fd:003", DescriptorEndpoint(3)),
            ("systemd:name=echo", SystemdEndpoint("echo")),
            ("systemd:index=0", SystemdEndpoint(index=0)),
        ],
    )
    def test_spellings(self, text: str, endpoint: UDPEndpoint | DescriptorEndpoint | SystemdEndpoint) -> None:
        """Those of the documentation, and both ways to write ``=`` in a value, as Twisted's grammar has them."""
        assert parse(text) == endpoint

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            # no number, no address, no kind
            ("", "write 127.0.0.1:9999, [::1]:9999 or a description"),
            ("localhost", "'localhost': write 127.0.0.1:9999"),
            ("localhost:9999", "'localhost' is not an IPv4 or IPv6 address"),
            ("999.0.0.1:9999", "'999.0.0.1' is not an IPv4 or IPv6 address"),
            (":9999", "'' is not an IPv4 or IPv6 address"),
            ("127.0.0.1", "'127.0.0.1': write 127.0.0.1:9999"),
            ("tcp:9999", "'tcp' is not an IPv4 or IPv6 address: write 127.0.0.1:9999"),
            ("udb:9999:interface=lo", "did you mean udp:…?"),
            ("sytemd:name=echo", "did you mean systemd:…?"),
            ("fdd:3", "did you mean fd:…?"),
            # brackets
            ("::1:9999", "write 127.0.0.1:9999, [::1]:9999"),
            ("fe80::1%eth0:9999", "[::1]:9999"),
            ("[127.0.0.1]:9999", "only IPv6 addresses stand in brackets"),
            ("[::1]", "'[::1]'"),
            ("[::1%]:9999", "is not an address with a scope such as fe80::1%eth0"),
            ("127.0.0.1%lo:9999", "is not an address with a scope such as fe80::1%eth0"),
            # port numbers
            ("65536", "port '65536' must be a port number from 0 to 65535"),
            ("127.0.0.1:65536", "port '65536' must be a port number from 0 to 65535"),
            ("127.0.0.1:", "port '' must be a port number from 0 to 65535"),
            ("[::1]:x", "port 'x' must be a port number from 0 to 65535"),
            ("udp:-1", "port '-1' must be a port number from 0 to 65535"),
            ("udp:http", "port 'http' must be a port number from 0 to 65535"),
            ("\u0669\u0669", "port '\u0669\u0669' must be a port number from 0 to 65535"),
            # udp:
            ("udp", "the port number, as in udp:9999, is missing"),
            ("udp:", "the port number, as in udp:9999, is missing"),
            ("udp:interface=127.0.0.1", "the port number, as in udp:9999, is missing"),
            ("udp:9999:", "there is an empty word"),
            ("udp:9999:127.0.0.1", "'127.0.0.1' is not expected"),
            ("udp:9999:interface=::1", r"interface= has no value (a colon inside a value is written \:"),
            ("udp:9999:interface=fe80::1", r"there is an empty word (a colon inside a value is written \:"),
            ("udp:9999:interface=", "interface= has no value"),
            ("udp:9999:rcvbuf=", "rcvbuf= has no value"),
            ("udp:9999:=x", "= is not known here"),
            ("udp:9999:interface=localhost", "'localhost' is not an IPv4 or IPv6 address"),
            (r"udp:9999:interface=[\:\:1]", "'[::1]' is not an IPv4 or IPv6 address"),
            ("udp:9999:recvbuf=4M", "recvbuf= is not known here: did you mean rcvbuf=?"),
            ("udp:9999:interfce=lo", "interfce= is not known here: did you mean interface=?"),
            ("udp:9999:reuse=1", "reuse= is not known here"),
            ("udp:9999:rcvbuf=4M:rcvbuf=8M", "rcvbuf= is given twice"),
            ("udp:9999:rcvbuf=many", "rcvbuf 'many' must be a size in bytes, such as 65536, 64k or 4M"),
            ("udp:9999:rcvbuf=0", "rcvbuf '0' must be a size in bytes"),
            ("udp:9999:device=eth0\\", "a backslash stands before ':', '=' or another backslash"),
            ("udp:9999:device=eth0\\n", "not before 'n'"),
            ("udp:9999:device=sixteencharacter", "device 'sixteencharacter' is no name of a network interface"),
            ("udp:9999:device=lo\0x", r"device 'lo\x00x' is no name of a network interface"),
            ("udp:9999:a\nb=c", r"a\nb= is not known here"),
            # fd:
            ("fd", "the descriptor, as in fd:3, is missing"),
            ("fd:", "the descriptor, as in fd:3, is missing"),
            ("fd:x", "descriptor 'x' must be a number"),
            ("fd:-1", "descriptor '-1' must be a number"),
            ("fd:1234567890", "descriptor '1234567890' must be a number of at most nine digits"),
            ("fd:\u0663", "descriptor '\u0663' must be a number"),
            ("fd:3:4", "'4' is not expected"),
            ("fd:3:family=6", "family= is not known here"),
            # systemd:
            ("systemd", "must be systemd:name=NAME or systemd:index=0"),
            ("systemd:", "must be systemd:name=NAME or systemd:index=0"),
            ("systemd:echo", "'echo' is not expected"),
            ("systemd:nam=echo", "nam= is not known here: did you mean name=?"),
            ("systemd:name=", "name= has no value"),
            ("systemd:index=first", "index 'first' must be a number"),
            ("systemd:name=echo:index=0", "must be systemd:name=NAME or systemd:index=0"),
        ],
    )
    def test_mistakes_are_named(self, text: str, named: str) -> None:
        """An error names the part that is wrong and what would be right; Twisted's own parser takes many of these."""
        with pytest.raises(EndpointError, match=re.escape(named)) as refusal:
            parse(text)
        assert is_one_line(str(refusal.value))


class TestUnits:
    """Sizes and port numbers."""

    @pytest.mark.parametrize(("text", "value"), [("65536", 65536), ("64k", 65536), ("4M", 4 << 20), ("1g", 1 << 30)])
    def test_sizes(self, text: str, value: int) -> None:
        """In bytes, or in powers of 1024, in capitals or not."""
        assert size(text) == value

    @thorough
    @given(st.integers(1, 10**15 - 1), st.sampled_from(["", "k", "K", "m", "M", "g", "G"]))
    def test_size_is_its_number_in_its_unit(self, number: int, unit: str) -> None:
        assert size(f"{number}{unit}") == number * 1024 ** " kmg".index(unit.lower() or " ")

    @thorough
    @given(st.integers(0, 65535))
    def test_port_numbers(self, number: int) -> None:
        assert port_number(str(number)) == number

    @pytest.mark.parametrize("text", ["", "0", "k", "-1", "1.5M", "4MB", "4 M", " 4", "1_000", "\u0664", "9" * 16])
    def test_no_sizes(self, text: str) -> None:
        """No unit of somebody else's, no digits of another script, nothing that takes no byte or all memory."""
        with pytest.raises(ValueError, match=r"^must be a size in bytes, such as 65536, 64k or 4M$"):
            size(text)

    @pytest.mark.parametrize("text", ["", "-1", "+1", "65536", "000000", "http", " 9", "9\n", "1_0", "\u0669", "0x7"])
    def test_no_port_numbers(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"^must be a port number from 0 to 65535$"):
            port_number(text)

    @thorough
    @given(TEXTS, st.sampled_from([size, port_number]))
    def test_any_text_is_a_number_or_one_line(self, text: str, unit: Callable[[str], int]) -> None:
        """What is taken is what `int` makes of its digits; the rest is a ValueError of one line."""
        value = read_or_refused(lambda: unit(text), ValueError)
        if value is not None:
            assert text.isascii()
            assert value >= int(text.rstrip("kKmMgG"))

    @thorough
    @given(TEXTS)
    def test_one_line_shows_what_can_be_shown(self, text: str) -> None:
        """A user's text in an error stays as it is, as far as a terminal can show it."""
        assert one_line(text).isprintable()
        assert not text.isprintable() or one_line(text) == text

    def test_one_line_escapes(self) -> None:
        assert one_line("é\n\u2028\udcff\x1b") == r"é\n\u2028\udcff\x1b"


class TestActivation:
    """``LISTEN_PID``, ``LISTEN_FDS`` and ``LISTEN_FDNAMES``, sd_listen_fds(3)."""

    @pytest.mark.parametrize(
        ("count", "given_names", "named"),
        [
            ("1", "echo", ["echo"]),
            ("2", "echo:echo", ["echo", "echo"]),
            ("2", None, ["unknown", "unknown"]),
            ("2", "", ["unknown", "unknown"]),
            ("2", ":b", ["unknown", "b"]),
            ("2", "a:", ["a", "unknown"]),
            ("3", "a", ["a", "unknown", "unknown"]),
            ("1", "a:b:c", ["a"]),
            ("0", "", []),
        ],
    )
    def test_names(self, count: str, given_names: str | None, named: list[str]) -> None:
        """The first descriptor is 3; one without a name is called as systemd calls it, ``unknown``."""
        environ = {"LISTEN_PID": "7", "LISTEN_FDS": count}
        if given_names is not None:
            environ["LISTEN_FDNAMES"] = given_names
        assert parse_environment(environ, 7) == tuple(Inherited(3 + index, name) for index, name in enumerate(named))

    @pytest.mark.parametrize("environ", [{}, {"LISTEN_FDS": ""}, {"LISTEN_PID": "7", "LISTEN_FDNAMES": "echo"}])
    def test_nothing_handed_over(self, environ: dict[str, str]) -> None:
        with pytest.raises(ActivationError, match=r"^no socket was handed over \(LISTEN_FDS is not set\)$"):
            parse_environment(environ, 7)

    @pytest.mark.parametrize(
        ("environ", "named"),
        [
            ({}, r"handed to process \(none\), and this is process 7"),
            ({"LISTEN_PID": "6"}, "handed to process 6, and this is process 7"),
            ({"LISTEN_PID": "6\n6"}, r"handed to process 6\\n6, and"),
        ],
    )
    def test_handed_to_somebody_else(self, environ: dict[str, str], named: str) -> None:
        """A shell between systemd and twistd keeps the environment, but the descriptors were not meant for it."""
        with pytest.raises(ActivationError, match=named):
            parse_environment({"LISTEN_FDS": "1", **environ}, 7)

    @pytest.mark.parametrize("count", ["one", "-1", " 1", "1.0", "\u0661", "4294967296", "9" * 30, "9" * 5000])
    def test_no_number_of_descriptors(self, count: str) -> None:
        """An absurd number is refused before anything is made of it."""
        with pytest.raises(ActivationError, match=f"^LISTEN_FDS is '{count}', not a number of descriptors$"):
            parse_environment({"LISTEN_PID": "7", "LISTEN_FDS": count}, 7)

    @thorough
    @given(
        st.fixed_dictionaries(
            {"LISTEN_PID": st.one_of(st.just("7"), TEXTS)},
            optional={
                "LISTEN_FDS": st.one_of(st.integers(-1, 10**12).map(str), TEXTS),
                "LISTEN_FDNAMES": st.one_of(st.lists(names(20)).map(":".join), TEXTS),
            },
        )
    )
    def test_any_environment_is_descriptors_or_one_line(self, environ: dict[str, str]) -> None:
        """An environment can be anybody's."""
        inherited = read_or_refused(lambda: parse_environment(environ, 7), ActivationError)
        if inherited is not None:
            assert [one.descriptor for one in inherited] == list(range(3, 3 + int(environ["LISTEN_FDS"])))
            assert all(one.name for one in inherited)
