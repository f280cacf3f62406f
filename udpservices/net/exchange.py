"""One datagram to a peer and one back, without a reactor: for a process that does nothing else."""

import socket
import time
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from socket import SOCK_DGRAM
from threading import Thread
from typing import NamedTuple

from udpservices.net.addresses import SocketAddress, endpoint_text, host_and_port, is_literal, parse_host
from udpservices.net.resolve import UNKNOWN, encoded


class NoReply(ValueError):
    """Why there is no reply; the text is one line."""


class Reply(NamedTuple):
    """From whom a reply came, and how long it took, in seconds."""

    peer: str
    seconds: float


class _Address(NamedTuple):
    """What getaddrinfo(3) says of one."""

    family: int
    address: SocketAddress

    @property
    def text(self) -> str:
        return endpoint_text(*host_and_port(self.address))


def ask(host: str, port: int, payload: bytes, timeout: float) -> Reply:
    """Send a datagram to a host, a name or a literal, and wait for one back; for `timeout` seconds, look-up included.

    Of several addresses each is asked, one after the other, until one replies; each has its share of what is left of
    the time. Raises NoReply.
    """
    deadline = time.monotonic() + timeout
    addresses = _addresses(host, port, timeout)
    why = []
    for left, one in zip(range(len(addresses), 0, -1), addresses, strict=True):
        seconds = max((deadline - time.monotonic()) / left, 0.001)
        try:
            return Reply(one.text, _exchange(one, payload, seconds))
        except TimeoutError:
            why.append(f"no answer from {one.text} within {seconds:.3g} s")
        except ConnectionRefusedError:
            why.append(f"no one listening on {one.text}")
        except OSError as error:
            why.append(f"cannot reach {one.text}: {error.strerror}")
    raise NoReply("; ".join(why))


def _exchange(peer: _Address, payload: bytes, timeout: float) -> float:
    """Seconds there and back. Raises OSError: TimeoutError, ConnectionRefusedError, or what the network says."""
    with socket.socket(peer.family, SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect(peer.address)
        began = time.perf_counter()
        sock.send(payload)
        sock.recv(1)
        return time.perf_counter() - began


def _addresses(host: str, port: int, timeout: float) -> list[_Address]:
    """The addresses of a host, each once. Raises NoReply."""
    if is_literal(host):
        literal = parse_host(host)
        try:
            return [_Address(literal.family, literal.socket_address(port))]
        except OSError as error:
            raise NoReply(f"cannot reach {endpoint_text(host, port)}: {error.strerror}") from error
    try:
        found = _look_up(host, port, timeout)
    except UnicodeError:
        raise NoReply(f"{host} is not known as a host") from None
    except socket.gaierror as error:
        unknown = error.errno in UNKNOWN
        raise NoReply(
            f"{host} is not known as a host" if unknown else f"looking up {host} failed: {error.strerror}"
        ) from error
    return list(dict.fromkeys(found))


def _look_up(host: str, port: int, timeout: float) -> Iterable[_Address]:
    """As getaddrinfo(3), which may take a minute; nobody waits longer than `timeout` seconds. Raises what it raises."""
    name = encoded(host)
    answers: SimpleQueue[Iterable[_Address] | Exception] = SimpleQueue()

    def look_up() -> None:
        try:
            found = socket.getaddrinfo(name, port, type=SOCK_DGRAM)
            answers.put([_Address(family, address) for family, _, _, _, address in found])
        except Exception as error:
            answers.put(error)

    Thread(target=look_up, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise NoReply(f"looking up {host} took longer than {timeout:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
