"""A TFTP server (RFC 1350) for one folder, with blocks of any size (RFC 2348). It is written for Twisted alone.

Each transfer is a session on a port of its own, which the protocol opens.
"""

import contextlib
import struct
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from twisted.internet import reactor
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

READ, WRITE, DATA, ACK, ERROR, OACK = range(1, 7)
NOT_FOUND, ACCESS, EXISTS = 1, 2, 6

#: Bytes of a block unless a client asks for others (RFC 1350), and at most (RFC 2348).
BLOCK, LARGEST = 512, 65464

#: Seconds after which a datagram is sent again, and how often.
PATIENCE, TRIES = 1.0, 5


class TFTP(DatagramProtocol):
    """Reads requests."""

    noisy = False

    def __init__(self, folder: str = ".") -> None:
        self.folder = Path(folder).resolve()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Open a session for a transfer, or say why not."""
        opcode, fields = struct.unpack_from("!H", datagram + b"\0\0")[0], datagram[2:].split(b"\0")
        if opcode not in (READ, WRITE) or len(fields) < 3:
            return
        path = self.folder / fields[0].decode(errors="replace")
        size = int(_options(fields[2:]).get(b"blksize", b"0")) if _asks_for_a_size(fields[2:]) else None
        kind = Reading if opcode == READ else Writing
        try:
            if path.resolve().parent != self.folder:
                raise PermissionError
            session = kind(addr, path, size)
        except OSError as error:
            code = {FileNotFoundError: NOT_FOUND, FileExistsError: EXISTS}.get(type(error), ACCESS)
            self.transport.write(struct.pack("!HH", ERROR, code) + type(error).__name__.encode() + b"\0", addr)
        else:
            reactor.listenUDP(0, session, interface=self.transport.getHost().host)


def _options(fields: list[bytes]) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in list(pairwise(fields))[::2]}


def _asks_for_a_size(fields: list[bytes]) -> bool:
    value = _options(fields).get(b"blksize", b"")
    return value.isdigit() and int(value) >= 8


class Session(DatagramProtocol):
    """A transfer with one peer: sends something again until it is answered."""

    noisy = False

    def __init__(self, peer: tuple[str, int], size: int | None) -> None:
        self._peer = peer
        self._size = BLOCK if size is None else min(size, LARGEST)
        self._is_acknowledging_options = size is not None
        self._block = 0
        self._last = b""
        self._again: IDelayedCall | None = None

    def startProtocol(self) -> None:
        """Hear the peer alone, and begin."""
        self.transport.connect(*self._peer)
        if self._is_acknowledging_options:
            self._send(struct.pack("!H", OACK) + b"blksize\0%d\0" % self._size)
        else:
            self._begin()

    def stopProtocol(self) -> None:
        """Send no more."""
        self._cancel()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        """Go on."""
        if len(datagram) >= 4:
            opcode, block = struct.unpack_from("!HH", datagram)
            if opcode == ERROR:
                self._end()
            else:
                self._answer(opcode, block, datagram[4:])

    def connectionRefused(self) -> None:
        """The peer has gone."""
        self._end()

    def _begin(self) -> None:
        raise NotImplementedError

    def _answer(self, opcode: int, block: int, data: bytes) -> None:
        raise NotImplementedError

    def _next_block(self) -> int:
        return (self._block + 1) & 0xFFFF

    def _send(self, datagram: bytes, tries: int = TRIES) -> None:
        self._cancel()
        self._last = datagram
        self.transport.write(datagram)
        again = (self._send, datagram, tries - 1) if tries > 1 else (self._end,)
        self._again = reactor.callLater(PATIENCE, *again)

    def _cancel(self) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()

    def _end(self) -> None:
        self._cancel()
        self.transport.stopListening()


class Reading(Session):
    """A client reads a file."""

    def __init__(self, peer: tuple[str, int], path: Path, size: int | None) -> None:
        """Raises OSError."""
        super().__init__(peer, size)
        self._file: BinaryIO = path.open("rb")
        self._is_last = False

    def stopProtocol(self) -> None:
        """Close the file."""
        super().stopProtocol()
        self._file.close()

    def _begin(self) -> None:
        self._block = self._next_block()
        data = self._file.read(self._size)
        self._is_last = len(data) < self._size
        self._send(struct.pack("!HH", DATA, self._block) + data)

    def _answer(self, opcode: int, block: int, data: bytes) -> None:
        if opcode != ACK or block != self._block:
            return
        if self._is_last:
            self._end()
        else:
            self._begin()


class Writing(Session):
    """A client writes a file, which is there when it is whole."""

    def __init__(self, peer: tuple[str, int], path: Path, size: int | None) -> None:
        """Raises OSError."""
        super().__init__(peer, size)
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._file: BinaryIO = self._part.open("xb")
        self._is_whole = False

    def stopProtocol(self) -> None:
        """Keep what is whole."""
        super().stopProtocol()
        self._file.close()
        with contextlib.suppress(FileNotFoundError):
            self._part.unlink()

    def _begin(self) -> None:
        self._send(struct.pack("!HH", ACK, self._block))

    def _answer(self, opcode: int, block: int, data: bytes) -> None:
        if opcode != DATA:
            return
        if block == self._next_block() and not self._is_whole:
            self._block = block
            self._file.write(data)
            if len(data) < self._size:
                self._is_whole = True
                self._file.close()
                self._part.rename(self._path)
        elif block != self._block:
            return
        self._send(struct.pack("!HH", ACK, self._block), 1 if self._is_whole else TRIES)
