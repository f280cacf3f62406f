"""How a port ends: at whose word, and what is left of it then."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.conftest import Turning, own_reactor
from tests.support import PATIENCE, ROOT, udp_socket
from tests.transport.peers import Recorder, expect_much
from udpservices import Batch, DatagramReactor
from udpservices.transport.engine import libc
from udpservices.transport.open_ports import open_ports

LOOPBACK = "127.0.0.1"

#: A program whose reactor is stopped by a handler of a busy port, or while an ICMP error waits to be told.
ENDING = """
import socket, sys
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from udpservices import DatagramReactor
from udpservices.transport.read_loop import Reading

class Ending(DatagramProtocol):
    noisy = False
    received = 0
    def datagramReceived(self, datagram, addr):
        self.received += 1
        if self.received == 2000:
            print("busy:", port.reading.state is Reading.SPINNING)
            reactor.stop()
        elif self.received < 2000:
            self.transport.write(datagram, addr)
    def stopProtocol(self):
        print("stopped")

port = DatagramReactor(reactor).listenUDP(0, Ending(), interface="127.0.0.1")

def grow_busy():
    for _ in range(100):
        port.write(b"x", ("127.0.0.1", port.getHost().port))

def hear_of_nobody():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        nobody = sock.getsockname()
    port.connect(*nobody)
    port.write(b"x")
    reactor.stop()

reactor.callWhenRunning({"busy": grow_busy, "error": hear_of_nobody}[sys.argv[1]])
reactor.run()
"""


@pytest.mark.parametrize("how", ["busy", "error"])
def test_end_of_the_reactor_is_the_end_of_the_port(how: str, tmp_path: Path) -> None:
    """Also where its poller does not know of the port, or takes it for one that has an error."""
    program = tmp_path / "ending.py"
    program.write_text(ENDING)
    words = [sys.executable, str(program), how]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True, env=environment)
    assert done.stdout == ("busy: True\n" if how == "busy" else "") + "stopped\n", done.stderr


def test_poller_that_tells_an_error_which_somebody_saw_already(epoll: Turning) -> None:
    """A write of somebody else's turn may have been told first. The port lives on."""
    protocol = Recorder()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    port.connectionLost(Failure(ConnectionLost()))
    assert port.connected
    with udp_socket() as client:
        client.sendto(b"x", (LOOPBACK, port.getHost().port))
        epoll.until(lambda: protocol.received)
    assert not protocol.stopped


def test_each_who_stops_it_is_told(epoll: Turning) -> None:
    protocol = Recorder()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    told: list[str] = []
    for name in ("protocol", "service"):
        port.stopListening().addCallback(lambda _, name=name: told.append(name))
    epoll.until(lambda: told)
    assert told == ["protocol", "service"]
    assert port.stopListening() is None
    port.connectionLost()
    assert port.counters.protocol_errors == 0


def test_end_that_meets_another(epoll: Turning) -> None:
    """A `stopProtocol` that turns the reactor, which ends the port as well."""

    class Slow(Recorder):
        def stopProtocol(self) -> None:
            assert not self.stopped
            super().stopProtocol()
            port._end()

    protocol = Slow()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    number = port.getHost().port
    assert number in open_ports.numbers
    port.stopListening()
    epoll.until(lambda: protocol.stopped)
    assert port.counters.protocol_errors == 0
    assert number not in open_ports.numbers


def test_second_port_of_one_protocol_leaves_the_first_alone(epoll: Turning) -> None:
    protocol = Recorder()
    reactor = DatagramReactor(epoll.reactor)
    port = reactor.listenUDP(0, protocol, interface=LOOPBACK)
    with pytest.raises(AssertionError):
        reactor.listenUDP(0, protocol, interface=LOOPBACK)
    assert protocol.transport is port


def test_last_words(epoll: Turning) -> None:
    """What a protocol writes by a transport that it kept, when it is stopped, is sent."""

    class Polite(Recorder):
        def startProtocol(self) -> None:
            self.kept = self.transport

        def stopProtocol(self) -> None:
            super().stopProtocol()
            self.kept.write(b"bye", client.getsockname())

    protocol = Polite()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    with udp_socket() as client:
        port.stopListening()
        epoll.until(lambda: protocol.stopped)
        assert client.recv(10) == b"bye"


def test_what_was_written_before_is_sent_before_a_handler_sees_the_end(epoll: Turning) -> None:
    class Leaving(Recorder):
        def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
            super().datagramReceived(datagram, addr)
            self.transport.write(b"goodbye", addr)
            self.transport.stopListening()
            epoll.until(lambda: self.stopped)

    protocol = Leaving()
    port = DatagramReactor(epoll.reactor).listenUDP(0, protocol, interface=LOOPBACK)
    with udp_socket() as client:
        for _ in range(10):
            client.sendto(b"x", (LOOPBACK, port.getHost().port))
        epoll.until(lambda: protocol.stopped)
        assert client.recv(10) == b"goodbye"
    assert len(protocol.received) == 1
    assert port.counters.unsent == 0


def test_socket_that_cannot_be_set_up_is_closed(epoll: Turning, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[socket.socket] = []

    def fail(sock: socket.socket) -> bool:
        opened.append(sock)
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr("udpservices.net.sockopts.report_destination", fail)
    with pytest.raises(OSError, match="Cannot allocate"):
        DatagramReactor(epoll.reactor).listenUDP(0, Recorder())
    assert opened[0].fileno() == -1


@pytest.mark.skipif(not libc.is_available("recvmmsg"), reason="this system reads one datagram a call")
def test_processes_that_fork_share_no_memory() -> None:
    """A child that receives does not write where the parent's datagrams lie."""
    seen: list[list[bytes]] = []

    class Forking:
        noisy = False
        transport: Any

        def makeConnection(self, transport: Any) -> None:
            self.transport = transport

        doStop = staticmethod(lambda: None)

        def datagramsReceived(self, batch: Batch) -> None:
            child = os.fork()
            if not child:
                try:
                    batch.storage.slots.buffer[:5] = b"CHILD"  # type: ignore[attr-defined]
                except BaseException:
                    os._exit(1)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            seen.append(list(batch.payloads))

    with own_reactor("epoll") as turning, udp_socket() as client:
        port = DatagramReactor(turning.reactor).listenUDP(0, Forking(), interface=LOOPBACK)
        expect_much(port)
        client.sendto(b"parent", (LOOPBACK, port.getHost().port))
        turning.until(lambda: seen)
    assert seen == [[b"parent"]]
