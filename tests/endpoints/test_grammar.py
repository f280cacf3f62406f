"""Endpoints as people write them."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.texts import TEXTS, is_one_line, names, read_or_refused, thorough
from udpservices.endpoints import DescriptorEndpoint, EndpointError, SystemdEndpoint, UDPEndpoint, parse
from udpservices.endpoints.grammar import escape

PORTS = st.integers(0, 65535)
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
    freely = bool(words) and draw(st.booleans())
    size_and_device = draw(st.sampled_from(["rcvbuf", "device", "both", *(["neither"] if freely else [])]))
    if size_and_device in ("rcvbuf", "both"):
        words.append(f"rcvbuf={draw(st.integers(1, 1 << 31))}")
    if size_and_device in ("device", "both"):
        words.append(f"device={escape(draw(names(15)))}")
    words += ["freebind"] * freely
    return ":".join(["udp", str(draw(PORTS)), *words])


CANONICAL = st.one_of(
    PORTS.map(str),
    st.builds("{}:{}".format, INTERFACES.map(bracketed), PORTS),
    with_keys(),
    st.builds("fd:{}".format, st.integers(0, 999_999_999)),
    st.builds("systemd:index={}".format, st.integers(0, 999_999_999)),
    st.builds("systemd:name={}".format, names(255).map(escape)),
)


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
            ("udp:9999:interface=192.0.2.1:freebind", UDPEndpoint(9999, ("192.0.2.1",), freebind=True)),
            ("udp:9999:freebind:interface=192.0.2.1", UDPEndpoint(9999, ("192.0.2.1",), freebind=True)),
            ("udp:9999:freebind=yes:interface=192.0.2.1", UDPEndpoint(9999, ("192.0.2.1",), freebind=True)),
            ("udp:9999:freebind=no:interface=192.0.2.1", UDPEndpoint(9999, ("192.0.2.1",))),
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
            ("udp:9999:interface=::1:freebind=maybe", "interface= has no value"),
            (
                "udp:9999:interface=192.0.2.1:freebind=maybe",
                "freebind 'maybe' must be yes or no; freebind alone is yes",
            ),
            ("udp:9999:interface=192.0.2.1:freebind=1", "freebind '1' must be yes or no; freebind alone is yes"),
            ("udp:9999:interface=192.0.2.1:freebind=", "freebind= has no value"),
            ("udp:9999:interface=192.0.2.1:freebind:freebind", "freebind is given twice"),
            ("udp:9999:interface=192.0.2.1:freebind=no:freebind", "freebind is given twice"),
            ("udp:9999:interface=192.0.2.1:freebnd", "'freebnd' is not expected: did you mean freebind?"),
            ("udp:9999:interface=192.0.2.1:freebnd=yes", "freebnd= is not known here: did you mean freebind=?"),
            ("udp:9999:freebind", "freebind is for an address that the host does not have yet: say which"),
            ("udp:freebind", "port 'freebind' must be a port number"),
            ("fd:3:freebind", "'freebind' is not expected"),
            ("systemd:name=a:freebind", "'freebind' is not expected"),
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
