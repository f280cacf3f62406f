"""Descriptors that somebody else opened, and the environment in which systemd tells of them."""

import os
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from socket import AF_INET, AF_INET6, AF_UNIX, SO_REUSEADDR, SOCK_DGRAM, SOL_SOCKET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoints.opening import buffer_of, exchange, families, flag, opened, refusal
from tests.network.hosts import Network
from tests.support import udp_socket
from tests.texts import TEXTS, names, read_or_refused, thorough
from udpservices.endpoints import parse, stream, systemd
from udpservices.endpoints.stream import inherited_stream, taken_description
from udpservices.endpoints.systemd import ActivationError, Inherited, described, parse_environment, untaken


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


class TestDescriptors:
    """``fd:``, sockets that somebody else bound."""

    @families
    def test_duplicate_is_taken(self, host: str) -> None:
        """The original stays open, so that a service can stop and start again, and so that others may use it."""
        with udp_socket(host) as original:
            with opened(f"fd:{original.fileno()}") as (sock,):
                assert sock.fileno() != original.fileno()
                assert sock.family == original.family
                assert sock.getsockname() == original.getsockname()
                assert not sock.get_inheritable()
                exchange(sock, host)
            exchange(original, host)

    def test_connected(self) -> None:
        """It stays so."""
        with udp_socket() as original, udp_socket() as peer:
            original.connect(peer.getsockname())
            with opened(f"fd:{original.fileno()}") as (sock,):
                assert sock.getpeername() == peer.getsockname()

    def test_blocking_is_cured(self) -> None:
        """systemd hands over blocking sockets, and one of those makes a reactor stand still."""
        with udp_socket() as original:
            os.set_blocking(original.fileno(), True)
            with opened(f"fd:{original.fileno()}") as (sock,):
                assert not os.get_blocking(sock.fileno())

    def test_theft_is_cured(self) -> None:
        """systemd sets SO_REUSEADDR, and another user's process could receive instead."""
        with socket.socket(AF_INET, SOCK_DGRAM) as original, socket.socket(AF_INET, SOCK_DGRAM) as thief:
            for sock in (original, thief):
                sock.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            original.bind(("127.0.0.1", 0))
            with opened(f"fd:{original.fileno()}") as (sock,):
                assert flag(sock, SO_REUSEADDR) == 0
                with pytest.raises(OSError, match="in use"):
                    thief.bind(original.getsockname())

    def test_receive_buffer(self) -> None:
        with udp_socket() as original, opened(f"fd:{original.fileno()}", receive_buffer=65536) as (sock,):
            assert buffer_of(sock) == 65536

    def test_cannot_be_shared_any_more(self) -> None:
        with udp_socket() as original:
            assert refusal(f"fd:{original.fileno()}", reuse_port=True) == (
                f"fd:{original.fileno()}: a socket is shared before it is bound, so whoever opened it must share it"
            )

    @pytest.mark.parametrize(
        ("open_one", "why"),
        [
            (lambda: socket.create_server(("127.0.0.1", 0)), "a SOCK_STREAM socket, not a datagram one"),
            (lambda: socket.socket(AF_INET, SOCK_DGRAM), "a UDP socket that is not bound to a port"),
            (lambda: socket.socket(AF_INET6, SOCK_DGRAM), "a UDP socket that is not bound to a port"),
            (lambda: socket.socket(AF_UNIX, SOCK_DGRAM), "an AF_UNIX socket, neither IPv4 nor IPv6"),
            (lambda: socket.socket(AF_UNIX), "an AF_UNIX socket, neither IPv4 nor IPv6"),
        ],
        ids=["stream", "unbound", "unbound-6", "unix", "unix-stream"],
    )
    def test_other_sockets(self, open_one: Callable[[], socket.socket], why: str) -> None:
        with open_one() as original:
            number = original.fileno()
            assert refusal(f"fd:{number}") == f"fd:{number}: descriptor {number} is {why}"

    def test_what_is_no_socket(self) -> None:
        with tempfile.TemporaryFile() as original:
            number = original.fileno()
            assert refusal(f"fd:{number}") == f"fd:{number}: descriptor {number} is no socket"

    def test_what_is_not_open(self) -> None:
        with tempfile.TemporaryFile() as original:
            number = original.fileno()
        assert refusal(f"fd:{number}") == f"fd:{number}: descriptor {number} is not open"
        assert refusal("fd:999999999") == "fd:999999999: descriptor 999999999 is not open"

    def test_what_is_not_udp(self) -> None:
        """A ping socket (icmp(7)) is a datagram socket of AF_INET as well; a raw one is none."""
        with Network(1) as (host,), ExitStack() as sockets:
            host.sysctl("ipv4.ping_group_range", "0 0")
            with host.entered():
                ping = sockets.enter_context(socket.socket(AF_INET, SOCK_DGRAM, socket.IPPROTO_ICMP))
                raw = sockets.enter_context(socket.socket(AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP))
            assert re.fullmatch(
                r"fd:(\d+): descriptor \1 is a datagram socket of protocol 1, not UDP", refusal(f"fd:{ping.fileno()}")
            )
            assert re.fullmatch(
                r"fd:(\d+): descriptor \1 is a SOCK_RAW socket, not a datagram one", refusal(f"fd:{raw.fileno()}")
            )


class TestHandedOver:
    """Sockets of several kinds under the names that socket units gave them."""

    @pytest.fixture
    def handed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[socket.socket]]:
        """Index 0 to 3: a stream and two datagram sockets named ``echo``, a datagram socket named ``other``.

        The gaps that other descriptors make are filled: systemd's have numbers in a row.
        """
        with ExitStack() as stack:
            sockets: list[socket.socket] = []
            base = 500
            for index, one in enumerate(
                (socket.create_server(("127.0.0.1", 0)), udp_socket(), udp_socket("::1"), udp_socket())
            ):
                with one:
                    os.dup2(one.fileno(), base + index, inheritable=False)
                sockets.append(stack.enter_context(socket.socket(fileno=base + index)))
            forged = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "4", "LISTEN_FDNAMES": "echo:echo:echo:other"}
            monkeypatch.setattr(systemd, "FIRST", base)
            monkeypatch.setattr(stream, "FIRST", base)
            monkeypatch.setattr(systemd, "_taken", set())
            monkeypatch.setattr(systemd, "initial_environment", lambda: forged)
            systemd.inherited_descriptors.cache_clear()
            yield sockets
            systemd.inherited_descriptors.cache_clear()

    def test_name_of_datagrams_and_streams(self, handed: list[socket.socket]) -> None:
        """A socket unit with ListenDatagram= and ListenStream= has one name for both."""
        endpoint = parse("systemd:name=echo")
        assert endpoint.count() == 2
        with opened(endpoint) as found:
            assert [sock.getsockname() for sock in found] == [sock.getsockname() for sock in handed[1:3]]

    def test_name_of_streams_alone(self, handed: list[socket.socket]) -> None:
        handed[1].close()
        handed[2].close()
        assert (
            refusal("systemd:name=echo")
            == "systemd:name=echo: descriptor 500 is a SOCK_STREAM socket, not a datagram one"
        )

    def test_stream_of_that_name(self, handed: list[socket.socket]) -> None:
        """For TCP it is the other way round: Twisted itself would take the last of the name, whatever that is."""
        assert taken_description("systemd:domain=INET:name=echo") == "systemd:domain=INET:index=0"
        assert [one.descriptor for one in untaken()] == [501, 502, 503]

    @pytest.mark.parametrize("text", ["tcp:7", "systemd:INET:0", "systemd:domain=INET", "systemd:domain=INET:index=x"])
    def test_other_descriptions_are_twisted_s(self, handed: list[socket.socket], text: str) -> None:
        assert taken_description(text) == text
        assert inherited_stream(text) is None

    def test_nobody_takes_it(self, handed: list[socket.socket]) -> None:
        """It says what it is, for a warning that names it."""
        ports = [sock.getsockname()[1] for sock in handed]
        assert [described(one) for one in untaken()] == [
            f"index 0 named 'echo' (stream 127.0.0.1:{ports[0]})",
            f"index 1 named 'echo' (datagram 127.0.0.1:{ports[1]})",
            f"index 2 named 'echo' (datagram [::1]:{ports[2]})",
            f"index 3 named 'other' (datagram 127.0.0.1:{ports[3]})",
        ]

    def test_taken(self, handed: list[socket.socket]) -> None:
        """By whatever an endpoint calls it; a socket that could not be opened is nobody's."""
        with opened("systemd:name=echo"), opened("fd:503"):
            assert [one.name for one in untaken()] == ["echo"]
        refusal("fd:500")
        assert [one.descriptor for one in untaken()] == [500]
        handed[0].close()  # as Twisted does when it has taken one
        assert untaken() == []

    @pytest.mark.parametrize(
        ("open_one", "what"),
        [
            (lambda: os.open("/dev/null", os.O_RDONLY), "no socket"),
            (lambda: socket.socket(AF_UNIX, SOCK_DGRAM).detach(), "datagram"),
            (lambda: socket.socket(AF_UNIX, socket.SOCK_SEQPACKET).detach(), "other"),
        ],
    )
    def test_other_kinds(self, handed: list[socket.socket], open_one: Callable[[], int], what: str) -> None:
        number = open_one()
        os.dup2(number, 503, inheritable=False)
        os.close(number)
        assert described(untaken()[-1]) == f"index 3 named 'other' ({what})"

    def test_nothing_handed_over(self) -> None:
        assert untaken() == []
