"""One datagram a call: the fallback, and the cheap way under light load."""

import errno
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from udpservices.net import sockopts
from udpservices.net.addresses import SocketAddress
from udpservices.net.cmsg import ControlMessage
from udpservices.net.routes import Routes, Unknown
from udpservices.transport.engine import ancillary, reply_source
from udpservices.transport.engine.base import NOTHING, Connection, Outcome
from udpservices.transport.engine.gso import SEGMENT_SPACE, SOL_UDP, UDP_GRO, UNSEGMENTABLE
from udpservices.transport.engine.libc import SLOT_BYTES, WOULD_BLOCK
from udpservices.transport.engine.peers import (
    MAX_PEERS,
    NOBODY,
    Peer,
    PeersByAddress,
    described,
    from_elsewhere,
    peer_at,
    plain,
)
from udpservices.transport.engine.received import Copies
from udpservices.transport.engine.send_reserve import SendReserve

#: The longest payload that can be sent: RFC 768's length field, and for IPv4 RFC 791's too.
LONGEST = {socket.AF_INET: 65507, socket.AF_INET6: 65527}

#: A datagram and who sent it; or instead a flow that came in one piece.
Arrival = tuple[bytes, Peer, Copies | None]

#: Turns that a peer's datagrams are the last of before it is looked up how the kernel answers it.
TURNS_TO_KNOW = 16

# Errors that tell of the datagram being sent, not of an earlier one.
_OWN_ERRORS = WOULD_BLOCK | {errno.ENOBUFS, errno.ENOMEM}


def _none(_: int) -> int:
    return 0


class PlainEngine:
    """Receives and sends one datagram a system call, by Python's `socket`."""

    def __init__(
        self,
        sock: socket.socket,
        connection: Connection,
        with_destination: bool,
        wanted: frozenset[str],
        routes: Routes | Unknown,
    ) -> None:
        """`with_destination`: an answer is to leave from the address that was asked.

        `wanted` are the fields of `Ancillary` that each datagram's peer is to have. `routes` tell from which address
        the kernel answers by itself: it costs half a microsecond to say it.
        """
        self._routes = routes
        self._socket = sock
        self._recvfrom, self._recvmsg, self._sendto, self._sendmsg = (
            sock.recvfrom,
            sock.recvmsg,
            sock.sendto,
            sock.sendmsg,
        )
        self._connection = connection
        self._reserve = SendReserve(sock)
        self._wanted = wanted
        self._with_destination = with_destination
        self._by_address = PeersByAddress(untold=with_destination)
        self._by_answer: dict[tuple[SocketAddress, bytes], Peer] = {}
        #: Whether the kernel tells errors of datagrams sent before, by the way: a send is repeated then.
        self.hears_errors = False
        #: An error that came behind datagrams: the next `receive` raises it.
        self.failed: OSError | None = None
        #: Whether as much as was asked for came the last time, so that there may be more.
        self.filled = False
        #: Is given what the kernel has no room for; without it, or where nothing may wait, that is not sent.
        self.when_full: Callable[[bytes, Peer], None] | None = None
        #: Whether `arrivals` that go on are to end.
        self.paused = False
        #: Receives up to so many datagrams one by one, as long as there are any: or all of a flow that came in one
        #: piece. It asks, where somebody is to be asked, how many more to receive when so many have come; none are the
        #: end. Raises OSError.
        self.arrivals: Callable[..., Iterator[Arrival]]
        self.coalesces(False)

    def coalesces(self, coalescing: bool) -> None:
        """Whether the kernel may hand over flows in one piece."""
        room = reply_source.CONTROL_SIZE[self._socket.family] if self._with_destination else 0
        room += SEGMENT_SPACE if coalescing else 0
        self._room = room + (ancillary.ROOM if self._wanted else 0)
        if not self._room:
            self.arrivals = self._bare_arrivals
        elif self._with_destination and not self._wanted and not coalescing:
            self.arrivals = self._arrivals_with_destination
        else:
            self.arrivals = self._described_arrivals

    # Receiving

    def receive(self, limit: int) -> Copies | None:
        """As many calls as datagrams, or flows."""
        failed, self.failed = self.failed, None
        if failed is not None:
            raise failed
        datagrams: list[tuple[bytes, Peer]] = []
        pieces = 0
        try:
            for payload, sender, flow in self.arrivals(limit):
                pieces += 1
                if flow is None:
                    datagrams.append((payload, sender))
                else:
                    datagrams += zip(flow.payloads, flow.peers, strict=True)
                if len(datagrams) >= limit:
                    break
        except OSError as error:
            if not datagrams:
                raise
            self.failed = error
        self.filled = len(datagrams) >= limit
        return Copies.of(datagrams, pieces) if datagrams else None

    def _bare_arrivals(self, limit: int, more: Callable[[int], int] = _none) -> Iterator[Arrival]:
        recvfrom, peers = self._socket.recvfrom, self._by_address
        while limit:
            count = 0
            while count < limit:
                try:
                    payload, address = recvfrom(SLOT_BYTES)
                except BlockingIOError:
                    break
                count += 1
                yield payload, peers[address], None
                if self.paused:
                    break
            limit = more(count)

    def _arrivals_with_destination(self, limit: int, more: Callable[[int], int] = _none) -> Iterator[Arrival]:
        recvmsg, peers, room = self._socket.recvmsg, self._by_answer, self._room
        sender = NOBODY
        while limit:
            count = 0
            while count < limit:
                try:
                    payload, control, _, address = recvmsg(SLOT_BYTES, room)
                except BlockingIOError:
                    break
                try:
                    sender = peers[address, control[0][2]]
                except (KeyError, IndexError):
                    sender = self._remember(address, control)
                count += 1
                yield payload, sender, None
                if self.paused:
                    break
            if sender is not NOBODY and sender.routed is not self._routes.version:
                self._get_to_know(sender)
            limit = more(count)

    def _get_to_know(self, peer: Peer) -> None:
        """Whether the kernel answers a peer from where it asked by itself; asked of those who come again and again."""
        peer.turns += 1
        if peer.turns % TURNS_TO_KNOW:
            return
        asked = reply_source.reply_address(peer.raw_control)
        if asked and self._routes.would_leave_from(asked, peer.socket_address):
            peer.routed = self._routes.version

    def _remember(self, address: SocketAddress, control: Sequence[ControlMessage]) -> Peer:
        found = self._asking(address, control)
        if len(self._by_answer) >= MAX_PEERS:
            self._by_answer.clear()
        if len(control) == 1:
            self._by_answer[address, control[0][2]] = found
        return found

    def _asking(self, address: SocketAddress, control: Sequence[ControlMessage]) -> Peer:
        """The peer at an address, who is to be answered from where he asked."""
        answer = reply_source.told(control, self._socket.family)
        if answer:
            found = peer_at(address, answer)
            elsewhere = found.is_loopback and reply_source.came_elsewhere(control, self._socket.family)
            return from_elsewhere(found) if elsewhere else found
        self.ask_again()
        return self._by_address[address]

    def ask_again(self) -> None:
        """The kernel told no destination: another process, which shares the socket, has turned that off."""
        with suppress(OSError):
            sockopts.report_destination(self._socket)

    def _described_arrivals(self, limit: int, more: Callable[[int], int] = _none) -> Iterator[Arrival]:
        while limit:
            count = 0
            while count < limit:
                try:
                    data, control, _, address = self._socket.recvmsg(SLOT_BYTES, self._room)
                except BlockingIOError:
                    break
                flow = self.split(data, control, address)
                count += 1
                if len(flow) > 1:
                    yield b"", NOBODY, flow
                else:
                    yield flow.payloads[0], flow.peers[0], None
                if self.paused:
                    break
            limit = more(count)

    def split(self, data: bytes, messages: Sequence[ControlMessage], address: SocketAddress) -> Copies:
        """The datagrams of what came in one piece, by its control messages."""
        segment = len(data) or 1
        for message in messages:
            if message[:2] == (SOL_UDP, UDP_GRO):
                segment = int.from_bytes(message[2], sys.byteorder)
        sender = self._asking(address, messages) if self._with_destination else self._by_address[address]
        if self._wanted:
            sender = described(sender, ancillary.read(messages, self._wanted))
        payloads = tuple([data[at : at + segment] for at in range(0, len(data) or 1, segment)])
        return Copies(payloads, (sender,) * len(payloads), 1)

    # Sending

    def attempt(self, datagram: bytes, peer: Peer) -> OSError | None:
        """Send one datagram; what the kernel says where it does not take it."""
        try:
            if peer.control and peer.routed is not self._routes.version:
                self._sendmsg((datagram,), peer.control, 0, peer.socket_address)
            elif self._connection.peer is None:
                self._sendto(datagram, peer.socket_address)
            else:
                self._socket.send(datagram)
        except OSError as error:
            return error
        return None

    def try_again(self, error: OSError, datagram: bytes, peer: Peer, *, may_wait: bool = True) -> Outcome:
        """Send again what an attempt failed to, where the kernel may not have refused it for its own sake.

        What it has no room for is for `when_full`, if that is set and the datagram `may_wait`.
        """
        earlier: tuple[OSError, ...] = ()
        failed: OSError | None = error
        if self.may_be_of_earlier(error):
            failed = self.attempt(datagram, peer)
            if tells_of_earlier(error, failed):
                earlier = (error,)
        elif peer.control and error.errno == errno.EINVAL:  # what was asked is no source address: a broadcast, say
            failed = self.attempt(datagram, plain(peer))
        if failed is not None and failed.errno in WOULD_BLOCK and self._connection.peer is None:
            failed = self._reserve.send(peer, failed, lambda: self.attempt(datagram, peer))
        if failed is not None and failed.errno in WOULD_BLOCK and may_wait and self.when_full is not None:
            self.when_full(datagram, peer)
            return Outcome(0, 0, earlier=earlier)
        return Outcome(0, 0, (failed,), earlier) if failed else Outcome(1, len(datagram), earlier=earlier)

    def may_be_of_earlier(self, error: OSError) -> bool:
        """Whether a send may have failed because of an earlier one, as the kernel tells on sockets that hear errors."""
        return (self.hears_errors or self._connection.peer is not None) and error.errno not in _OWN_ERRORS

    def send(self, datagrams: Sequence[bytes], peers: Sequence[Peer]) -> Outcome:
        """Send each, in order."""
        sent, size, total = 0, 0, NOTHING
        for datagram, peer in zip(datagrams, peers, strict=True):
            error = self.attempt(datagram, peer)
            if error is None:
                sent += 1
                size += len(datagram)
            else:
                total = total.plus(self.try_again(error, datagram, peer))
        return total.plus(Outcome(sent, size)) if sent else total


def tells_of_earlier(error: OSError, again: OSError | None) -> bool:
    """Whether an error was of an earlier send, by what came of trying again.

    What became of an earlier datagram the kernel tells once. What it says twice, such as that this one is too long, is
    no error of the network.
    """
    return again is None or again.errno != error.errno or error.errno not in UNSEGMENTABLE
