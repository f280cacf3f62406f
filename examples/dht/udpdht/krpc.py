"""The DHT's messages: bencoded dictionaries, one a datagram (BEP 5, "KRPC Protocol"; BEP 32 for IPv6)."""

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from bencode2 import bdecode, bencode

#: Bytes of a node's identity.
ID_LENGTH = 20

PROTOCOL_ERROR = 203
METHOD_UNKNOWN = 204

Addr = tuple[str, int]


def query(transaction: bytes, method: bytes, **arguments: bytes) -> bytes:
    """Ask something."""
    return bencode({"t": transaction, "y": "q", "q": method, "a": arguments})


def response(transaction: bytes, **values: bytes) -> bytes:
    """Answer a query."""
    return bencode({"t": transaction, "y": "r", "r": values})


def error(transaction: bytes, code: int, why: str) -> bytes:
    """Refuse a query."""
    return bencode({"t": transaction, "y": "e", "e": [code, why]})


def parse(datagram: bytes) -> dict[bytes, Any]:
    """The dictionary that a datagram holds, its transaction being bytes. Raises ValueError for anything else."""
    message = bdecode(datagram)
    if not isinstance(message, dict) or not isinstance(message.get(b"t"), bytes):
        raise ValueError("is no message")
    return message


def identity(values: Any, name: bytes) -> bytes:
    """The identity that a message has under this name. Raises ValueError where it has none."""
    found = values.get(name) if isinstance(values, dict) else None
    if not isinstance(found, bytes) or len(found) != ID_LENGTH:
        raise ValueError(f"{name.decode()} must be {ID_LENGTH} bytes")
    return found


def pack(nodes: Iterable[tuple[bytes, Addr]]) -> bytes:
    """Compact node info: identities, addresses and port numbers in a row."""
    return b"".join(node + ipaddress.ip_address(host).packed + port.to_bytes(2) for node, (host, port) in nodes)


def unpack(raw: Any, address_length: int) -> Iterator[tuple[bytes, Addr]]:
    """What `pack` has packed, an address having 4 or 16 bytes; what cannot be the address of a node is left out."""
    if not isinstance(raw, bytes):
        return
    length = ID_LENGTH + address_length + 2
    for start in range(0, len(raw) - length + 1, length):
        one = raw[start : start + length]
        host, port = ipaddress.ip_address(one[ID_LENGTH:-2]), int.from_bytes(one[-2:])
        if port and not (host.is_multicast or host.is_unspecified):
            yield one[:ID_LENGTH], (str(host), port)
