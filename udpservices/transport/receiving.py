"""How datagrams come into a port: one system call for many, or plain calls where only a few come at a time."""

import errno
import socket
import sys
from collections.abc import Iterable
from itertools import chain

from udpservices.net.addresses import SocketAddress
from udpservices.net.sockopts import (
    CONTROL_SIZE,
    DESTINATION,
    ControlMessage,
    answer_control,
    pack_control,
    split_control,
)
from udpservices.transport.batch import Batch
from udpservices.transport.engine import ancillary
from udpservices.transport.engine import libc as mmsg
from udpservices.transport.engine.libc import SEGMENT_SPACE, SLOT_BYTES, SLOTS, SOL_UDP, UDP_GRO
from udpservices.transport.engine.peers import NAME_SIZE, Peer, PeersByAddress, PeersByName, described, peer, unpack
from udpservices.transport.engine.receive_slots import Arrays
from udpservices.transport.sending import Sender

#: What comes by so few at a time is from clients that wait for answers, and is served cheaper by plain calls: after so
#: many small batches, so many turns read in that way before the next look for more.
FEW = 4
SMALL_BATCHES = 8
PLAIN_TURNS = 32

# Idle arrays, by what they are for: a process needs one of a kind, and one more for a handler that turns the reactor.
_idle: dict[tuple[int, ...], list[Arrays]] = {}

# Where plain calls receive; what they read is taken out at once.
_space = memoryview(bytearray(SLOT_BYTES))


class Receiver:
    """What comes into one port."""

    def __init__(self, sock: socket.socket, sender: Sender, with_destination: bool, wanted: frozenset[str]) -> None:
        """`with_destination`: an answer is to leave from the address that was asked.

        `wanted` are the fields of `Ancillary` that each datagram's peer is to have.
        """
        self._socket = sock
        self._sender = sender
        self._wanted = wanted
        self._by_name = PeersByName()
        self._by_address = PeersByAddress()
        self._together = mmsg.is_available()
        self._small = self._plain = 0
        self._few = 1
        #: An error that came behind datagrams: the next `receive` raises it.
        self.failed: OSError | None = None
        #: Datagrams a slot in the last batch, for what `receive` is limited to.
        self.flow = 1
        #: Whether as much as was asked for came the last time, so that there may be more.
        self.filled = False
        self._name_size = NAME_SIZE[sock.family]
        self._control_size = CONTROL_SIZE[sock.family] if with_destination else 0
        self._destination = DESTINATION[sock.family] if with_destination else None
        self._set_coalescing(mmsg.is_coalescing(sock))

    def _set_coalescing(self, coalescing: bool) -> None:
        self._coalescing = coalescing
        room = SEGMENT_SPACE if coalescing else 0
        self._kind = (
            (self._name_size, 0, room + ancillary.ROOM) if self._wanted else (self._name_size, self._control_size, room)
        )
        self._room = sum(self._kind[1:])
        self._idle = _idle.setdefault(self._kind, [])

    def coalesce(self) -> None:
        """Have flows come in one piece, where that can be: for good, as `mmsg.coalesce` says."""
        if self._together and not self._coalescing:
            self._set_coalescing(mmsg.coalesce(self._socket))

    def receive(self, limit: int) -> Batch | None:
        """About `limit` datagrams, or nothing where none is there. Raises OSError.

        More than `limit` only where the flows are longer than those of the last time.
        """
        failed, self.failed = self.failed, None
        if failed:
            raise failed
        if self._plain:
            self._plain -= 1
            batch = self._receive_one_by_one(self._few)
            self.filled = False
            return batch
        return self._receive_together(limit) if self._together else self._receive_one_by_one(limit)

    def _receive_together(self, limit: int) -> Batch | None:
        idle = self._idle
        arrays = idle.pop() if idle else Arrays(*self._kind)
        slots = min(max(limit // self.flow, 1), SLOTS)
        count = 0
        try:
            count = arrays.receive(self._socket.fileno(), slots)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                raise
            mmsg.do_without()
            self._together = False
            return self._receive_one_by_one(limit)
        finally:
            if not count:
                idle.append(arrays)
        self.filled = count == slots
        if not count:
            return None
        if self._wanted:
            return self._describe(arrays, count)
        batch = Batch.of(arrays, count, self._sender, self._by_name, idle)
        arrays.answer_from_destinations(count)
        if self._coalescing:
            self.flow = max(len(batch) // count, 1)
        self._look_for_few(0 if batch.segment_sizes else count)
        return batch

    def _look_for_few(self, count: int) -> None:
        if not 0 < count <= FEW or self._destination:
            self._small = 0
            return
        self._few = max(self._few, count) if self._small else count
        self._small += 1
        if self._small > SMALL_BATCHES:
            self._plain = PLAIN_TURNS

    @property
    def expects_few(self) -> bool:
        """Whether so few come at a time that `receive_one` is the cheaper way, until the next look for more."""
        return self._plain > 0 and not (self._room or self.failed)

    def how_few(self) -> int:
        """How often to `receive_one` in this turn."""
        self._plain -= 1
        return 1 if self._few == 1 else SLOTS

    def receive_one(self) -> tuple[bytes, Peer] | None:
        """One datagram and who sent it, or nothing where none is there. Raises OSError."""
        try:
            return self._receive_plainly()
        except BlockingIOError:
            return None

    def _receive_plainly(self) -> tuple[bytes, Peer]:
        payload, address = self._socket.recvfrom(SLOT_BYTES)
        return payload, self._by_address[address]

    def _describe(self, arrays: Arrays, count: int) -> Batch:
        """Datagrams whose peers have what the kernel told of them: taken out, and looked at one by one."""
        payloads = arrays.payloads(arrays.lengths(count))
        controls = map(split_control, arrays.received_controls(count))
        addresses = map(unpack, arrays.received_names(count))
        self._idle.append(arrays)
        return Batch(self._sender, chain.from_iterable(map(self._split, payloads, controls, addresses)), count)

    def _receive_one_by_one(self, limit: int) -> Batch | None:
        """As many calls as datagrams, or flows."""
        datagrams: list[tuple[bytes, Peer]] = []
        pieces = 0
        try:
            while len(datagrams) < limit:
                datagrams += self._receive_with_controls() if self._room else (self._receive_plainly(),)
                pieces += 1
        except BlockingIOError:
            pass
        except OSError as error:
            if not datagrams:
                raise
            self.failed = error
        self.filled = len(datagrams) >= limit
        return Batch(self._sender, datagrams, pieces) if datagrams else None

    def _receive_with_controls(self) -> list[tuple[bytes, Peer]]:
        length, control, _, address = self._socket.recvmsg_into([_space], self._room)
        return self._split(bytes(_space[:length]), control, address)

    def _split(
        self, data: bytes, control: Iterable[ControlMessage], address: SocketAddress
    ) -> list[tuple[bytes, Peer]]:
        messages = list(control)
        answer, segment = b"", len(data) or 1
        for message in messages:
            if message[:2] == (SOL_UDP, UDP_GRO):
                segment = int.from_bytes(message[2], sys.byteorder)
            elif message[:2] == self._destination:
                answer = answer_control(pack_control(message))
        sender = peer(address, answer) if answer else self._by_address[address]
        if self._wanted:
            sender = described(sender, ancillary.read(messages, self._wanted))
        return [(data[at : at + segment], sender) for at in range(0, len(data) or 1, segment)]
