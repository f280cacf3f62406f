"""udptime: RFC 868, with a clock that is turned by hand and with the clients that people have."""

import re
import socket
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from twisted.internet.task import Clock

from tests.conftest import REACTORS
from tests.services.commands import refusal
from tests.support import BIN, Process, run, serving, tool, udp_socket
from udpservices.services.timeservice import SINCE_1900, Time, TimeStream
from udpservices.testing import connect

PEER = ("192.0.2.7", 5000)

#: A service for clients that expect 1970.
UNIX = ("udptime", "--listen", "127.0.0.1:0", "--epoch", "unix")

#: When 32 bits of seconds since 1900 are full: 2036-02-07 06:28:16 UTC.
WRAP = 2**32 - SINCE_1900


def told(now: float, epoch: int = SINCE_1900, datagram: bytes = b"") -> int:
    """What a peer reads in the answer."""
    clock = Clock()
    clock.advance(now)
    protocol = Time(clock.seconds, epoch)
    transport = connect(protocol)
    protocol.datagramReceived(datagram, PEER)
    ((answer, peer),) = transport.written
    assert peer == PEER
    (seconds,) = struct.unpack("!I", answer)
    return int(seconds)


class TestValue:
    @pytest.mark.parametrize(
        ("day", "expected"),
        [
            ("1970-01-01", 2_208_988_800),
            ("1976-01-01", 2_398_291_200),
            ("1980-01-01", 2_524_521_600),
            ("1983-05-01", 2_629_584_000),
            ("1858-11-17", -1_297_728_000 % 2**32),
        ],
    )
    def test_examples_of_the_rfc(self, day: str, expected: int) -> None:
        """RFC 868 ends with these."""
        assert told(datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()) == expected

    @pytest.mark.parametrize(
        ("now", "expected"),
        [(WRAP - 1, 2**32 - 1), (WRAP - 0.001, 2**32 - 1), (WRAP, 0), (WRAP + 1, 1), (WRAP + 2**32, 0)],
    )
    def test_wraps_in_2036(self, now: float, expected: int) -> None:
        """The count starts again, as four bytes must; a service that runs then does not raise."""
        assert datetime.fromtimestamp(WRAP, UTC) == datetime(2036, 2, 7, 6, 28, 16, tzinfo=UTC)
        assert told(now) == expected

    @pytest.mark.parametrize(("now", "expected"), [(0, 0), (86_400.9, 86_400), (2**32 - 1, 2**32 - 1), (2**32, 0)])
    def test_epoch_unix(self, now: float, expected: int) -> None:
        """For clients that unpack the four bytes and hand them to `time.ctime`; wraps in 2106."""
        assert told(now, epoch=0) == expected

    def test_each_answer_is_the_time_then(self) -> None:
        clock = Clock()
        protocol = Time(clock.seconds, epoch=0)
        transport = connect(protocol)
        for _ in range(3):
            protocol.datagramReceived(b"", PEER)
            clock.advance(1)
        assert [datagram for datagram, _ in transport.written] == [b"\0\0\0\0", b"\0\0\0\1", b"\0\0\0\2"]

    @pytest.mark.parametrize("question", [b"", b"\n", b"what time is it?", b"x" * 65_507])
    def test_whatever_is_asked(self, question: bytes) -> None:
        """RFC 868 asks with an empty datagram; people ask with netcat."""
        assert told(0, datagram=question) == SINCE_1900


class TestOptions:
    def test_epoch_reaches_both_protocols(self) -> None:
        clock = Clock()
        options = Time.Options()
        options.parseOptions(["--epoch", "unix"])
        protocol = Time.fromOptions(options, clock)
        transport = connect(protocol)
        protocol.datagramReceived(b"", PEER)
        assert transport.written == [(bytes(4), PEER)]
        stream = Time.streamFromOptions(options, clock)
        assert isinstance(stream, TimeStream)

    @pytest.mark.parametrize("epoch", ["1970", "", "Unix", "1900.0"])
    def test_what_is_no_epoch(self, epoch: str) -> None:
        assert refusal("udptime", "--epoch", epoch) == (
            f"udptime: --epoch {epoch or repr(epoch)}: must be 1900 (RFC 868) or unix (for clients that expect 1970)"
        )


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[int, int]]:
    """A udptime in both families and over TCP: its port numbers."""
    with serving("udptime", "--port", "0", "--tcp", "0") as (process, port):
        yield port, int(process.wait_for(r"udptime listening on 127\.0\.0\.1:(\d+)/tcp$")[1])
        process.stop()
        assert "Traceback" not in process.output


def is_now(seconds: float) -> bool:
    """Whether this is the time, within what a loaded machine needs."""
    return abs(time.time() - seconds) < 5


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tutorial_client(service: tuple[int, int], host: str) -> None:
    """A socket that is connected and asks with nothing, as in books on network programming."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(20)
        sock.connect((host, service[0]))
        sock.send(b"")
        answer = sock.recv(2048)
    assert len(answer) == 4
    (since_1900,) = struct.unpack("!I", answer)
    assert is_now(since_1900 - SINCE_1900)


def test_tutorial_client_over_tcp(service: tuple[int, int]) -> None:
    """It reads until the other end closes, and asks nothing at all."""
    with socket.create_connection(("127.0.0.1", service[1]), timeout=20) as sock:
        chunks = list(iter(lambda: sock.recv(1024), b""))
    (since_1900,) = struct.unpack("!I", b"".join(chunks))
    assert is_now(since_1900 - SINCE_1900)


@pytest.mark.parametrize("reactor", REACTORS)
def test_client_of_1970_on_every_reactor(reactor: str) -> None:
    """The reactor's clock is the wall's, whichever reactor it is."""
    with Process(BIN / "twistd", "-n", "--pidfile=", f"--reactor={reactor}", *UNIX) as process:
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/udp")[1])
        with udp_socket() as sock:
            sock.sendto(b"", ("127.0.0.1", port))
            (since_1970,) = struct.unpack("!I", sock.recv(100))
    assert is_now(since_1970)


class TestRdate:
    """OpenBSD's rdate, as Debian has it; `-p` prints the time and sets nothing."""

    def asked(self, *words: str) -> bool:
        """Whether it prints the time; to the second, in the C locale's form."""
        done = run(tool("rdate"), "-p", *words, env={"TZ": "UTC", "LC_ALL": "C"})
        assert (done.returncode, done.stderr) == (0, "")
        printed = datetime.strptime(done.stdout.strip(), "%a %b %d %H:%M:%S UTC %Y").replace(tzinfo=UTC)
        return abs(datetime.now(UTC) - printed) < timedelta(seconds=5)

    def test_over_udp(self, service: tuple[int, int]) -> None:
        assert self.asked("-u", "-o", str(service[0]), "127.0.0.1")

    def test_over_udp_and_ipv6(self, service: tuple[int, int]) -> None:
        assert self.asked("-6", "-u", "-o", str(service[0]), "::1")

    def test_over_tcp(self, service: tuple[int, int]) -> None:
        assert self.asked("-o", str(service[1]), "127.0.0.1")


def test_netcat_gets_four_bytes(service: tuple[int, int]) -> None:
    """`-W1`: it is content with one answer."""
    done = run(tool("nc"), "-u", "-W1", "127.0.0.1", str(service[0]), input=b"\n", text=False)
    assert len(done.stdout) == 4


def test_stop_line_counts_datagrams() -> None:
    with serving(*UNIX) as (process, port), udp_socket() as sock:
        for _ in range(3):
            sock.sendto(b"", ("127.0.0.1", port))
            sock.recv(100)
        process.stop()
        assert re.search("udptime stopped: 3 received, 3 answered, 0 dropped$", process.output, re.MULTILINE)
