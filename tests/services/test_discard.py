"""udpdiscard: RFC 863, which is heard in its last line only."""

import re
import socket
import struct

import pytest

from tests.support import Process, run, serving, tool, udp_socket
from udpservices.services.discard import Discard
from udpservices.testing import connect


def stopped(process: Process) -> str:
    """The counts that the service logs when it stops."""
    process.stop()
    assert "Traceback" not in process.output
    found = re.search("^.* udpdiscard stopped: (.*)$", process.output, re.MULTILINE)
    assert found, process.output
    return found[1]


def test_writes_nothing() -> None:
    protocol = Discard()
    transport = connect(protocol)
    for datagram in (b"", b"hello", bytes(65_507)):
        protocol.datagramReceived(datagram, ("192.0.2.7", 5000))
    assert transport.written == []


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_counts_and_says_nothing(host: str) -> None:
    """Whatever would come back is there before the service has ended."""
    listen = f"[{host}]:0" if ":" in host else f"{host}:0"
    with serving("udpdiscard", "--listen", listen, "--log-datagrams") as (process, port), udp_socket(host) as sock:
        for size in (0, 1, 60_000):
            sock.sendto(b"x" * size, (host, port))
        sock.sendto(b"the last one", (host, port))
        process.wait_for("received b'the last one'")
        assert stopped(process) == "4 received, 0 answered, 0 dropped"
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)


def test_nping() -> None:
    """Nmap's ping sends as many as it is asked to, and hears nothing."""
    with serving("udpdiscard", "--listen", "127.0.0.1:0") as (process, port):
        words = ["--udp", "-p", str(port), "--count", "5", "--delay", "1ms", "--data-length", "32", "--unprivileged"]
        done = run(tool("nping"), *words, "127.0.0.1")
        assert "UDP packets sent: 5 | Rcvd: 0 | Lost: 5" in done.stdout, done.stdout
        assert stopped(process) == "5 received, 0 answered, 0 dropped"


def test_discards_a_stream() -> None:
    """Over TCP it takes what it gets and closes when the client does; the counts are those of datagrams."""
    with serving("udpdiscard", "--listen", "127.0.0.1:0", "--tcp", "0") as (process, _):
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/tcp")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(bytes(10_000_000))
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        assert stopped(process) == "0 received, 0 answered, 0 dropped"


def test_netcat_reads_to_the_end() -> None:
    """`nc -N` ends as soon as its input does: the service closes its side too."""
    with serving("udpdiscard", "--listen", "127.0.0.1:0", "--tcp", "0") as (process, _):
        port = process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/tcp")[1]
        done = run(tool("nc"), "-N", "127.0.0.1", port, input="x" * 1_000_000)
        assert (done.returncode, done.stdout) == (0, "")


def test_survives_a_client_that_resets() -> None:
    """RST instead of FIN, and the service takes the next one."""
    with serving("udpdiscard", "--listen", "127.0.0.1:0", "--tcp", "0") as (process, _):
        port = int(process.wait_for(r"listening on 127\.0\.0\.1:(\d+)/tcp")[1])
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
                sock.sendall(b"hello")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            sock.sendall(b"hello")
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(1) == b""
        stopped(process)
