"""Datagrams whose source is forged: raw sockets that write the IP header themselves (raw(7), IP_HDRINCL)."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.network.hosts import INTERFACE, Host
from udpservices.net.addresses import parse_host

Address = tuple[str, int]


class Forger:
    """Sends whatever it is told to, from whomever."""

    def __init__(self) -> None:
        self._sockets = {
            4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
            6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
        }
        self._link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        self._interface = socket.if_nametoindex(INTERFACE)
        self._sockets[4].setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        for sock in self._sockets.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode() + b"\0")

    def close(self) -> None:
        for sock in (*self._sockets.values(), self._link):
            sock.close()

    def _frame(self, version: int, header: bytes, ends: bytes, udp: bytes, hardware: bytes) -> None:
        if version == 4:  # which the kernel fills in elsewhere
            header = header[:2] + struct.pack("!H", 20 + len(udp)) + header[4:]
            header = header[:10] + struct.pack("!H", checksum(header + ends))
        kind = {4: 0x0800, 6: 0x86DD}[version]  # linux/if_ether.h
        self._link.sendto(header + ends + udp, (INTERFACE, kind, 0, 0, hardware))

    def send(self, source: Address, destination: Address, payload: bytes, hardware: str = "") -> None:
        """A datagram with right checksums; to a hardware address, where no route leads to the destination."""
        version = 6 if ":" in source[0] else 4
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        ends = [socket.inet_pton(family, parse_host(host).address) for host, _ in (source, destination)]
        udp = struct.pack("!4H", source[1], destination[1], 8 + len(payload), 0) + payload
        pseudo = b"".join(ends) + struct.pack("!II", len(udp), socket.IPPROTO_UDP)
        udp = udp[:6] + struct.pack("!H", checksum(pseudo + udp) or 0xFFFF) + udp[8:]
        if version == 6:
            header = struct.pack("!IHBB", 6 << 28, len(udp), socket.IPPROTO_UDP, 64)
            address: tuple[str, int] | tuple[str, int, int, int] = (
                parse_host(destination[0]).address,
                0,
                0,
                self._interface,
            )
        else:
            header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0)
            address = (destination[0], 0)
        if hardware:
            self._frame(version, header, b"".join(ends), udp, bytes.fromhex(hardware.replace(":", "")))
            return
        self._sockets[version].sendto(header + b"".join(ends) + udp, address)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@contextmanager
def forging(host: Host) -> Iterator[Forger]:
    """Forged datagrams leave from this host meanwhile."""
    with host.entered():
        forger = Forger()
    try:
        yield forger
    finally:
        forger.close()


def accept_any_source(host: Host) -> None:
    """Let datagrams in that could not have come this way."""
    for interface in ("all", INTERFACE):
        host.sysctl(f"ipv4.conf.{interface}.rp_filter", 0)
