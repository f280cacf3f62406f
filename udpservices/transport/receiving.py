"""How datagrams come into a port: one system call for many, or the plain call where one came alone."""

import socket
from typing import Any

from udpservices.transport.batch import Batch
from udpservices.transport.mmsg import SLOT_BYTES, SLOTS, Arrays, is_available
from udpservices.transport.peers import NAME_SIZE, PeersByAddress, PeersByName, peer
from udpservices.transport.sending import Sender
from udpservices.transport.sockopts import CONTROL_SIZE, answer_control, pack_control

#: After so many datagrams that came alone, as many are read by the plain call before the next look for many: a client
#: that waits for each answer is served cheaper so.
ALONE = 8

# Idle arrays, by what they are for: a process needs one of a kind, and one more for a handler that turns the reactor.
_idle: dict[tuple[int, int], list[Arrays]] = {}

# Where plain calls receive; what they read is taken out at once.
_space = memoryview(bytearray(SLOT_BYTES))


class Receiver:
    """What comes into one port."""

    def __init__(self, sock: socket.socket, sender: Sender, with_destination: bool) -> None:
        """`with_destination`: each datagram comes with the address that it was sent to."""
        self._socket = sock
        self._sender = sender
        self._with_destination = with_destination
        self._kind = (NAME_SIZE[sock.family], CONTROL_SIZE[sock.family] if with_destination else 0)
        self._by_name = PeersByName()
        self._by_address = PeersByAddress()
        self._together = is_available()
        self._singles = self._alone = 0
        self._arrays: Arrays | None = None

    def receive(self, limit: int) -> Batch:
        """At most `limit` datagrams, at least one. Raises OSError, BlockingIOError where there are none."""
        if self._alone:
            self._alone -= 1
            return self._receive_one()
        if not self._together:
            return self._receive_one_by_one(limit)
        idle = _idle.setdefault(self._kind, [])
        arrays = idle.pop() if idle else Arrays(*self._kind)
        try:
            count = arrays.receive(self._socket.fileno(), min(limit, SLOTS))
        except BaseException:
            idle.append(arrays)
            raise
        arrays.answer_from_destinations(count)
        self._singles = self._singles + 1 if count == 1 else 0
        if self._singles > ALONE and not self._with_destination:
            self._alone = ALONE
        return Batch.of(arrays, count, self._sender, self._by_name, idle)

    def _receive_one(self) -> Batch:
        length, address = self._socket.recvfrom_into(_space)
        return Batch(self._sender, [(bytes(_space[:length]), self._by_address[address])])

    def _receive_one_by_one(self, limit: int) -> Batch:
        """Without recvmmsg: as many calls as datagrams."""
        datagrams: list[Any] = []
        while len(datagrams) < limit:
            try:
                length, control, _, address = self._socket.recvmsg_into([_space], self._kind[1])
            except OSError:
                if datagrams:
                    break
                raise
            raw = answer_control(pack_control(control[0])) if control else b""
            sender = peer(address, raw) if raw else self._by_address[address]
            datagrams.append((bytes(_space[:length]), sender))
        return Batch(self._sender, datagrams)
