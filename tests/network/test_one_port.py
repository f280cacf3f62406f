"""What docs/one-port.md says of sharing a port number, and of who else gets in."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.network.conftest import Hosts
from tests.network.hosts import INTERFACE
from tests.support import BIN, need_root, serving
from udpservices.services.multicast import PING

HERE = "127.0.0.1"

NOBODY = 65534

REUSE_PORT = (socket.SO_REUSEPORT,)
BOTH = (socket.SO_REUSEADDR, socket.SO_REUSEPORT)


@contextmanager
def as_user(number: int) -> Iterator[None]:
    """Sockets that are opened meanwhile are this user's."""
    need_root()
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)


def bound(host: str, port: int, options: tuple[int, ...]) -> socket.socket:
    """A socket that asks for a port number with these options."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        for option in options:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


@pytest.mark.parametrize("options", [(), REUSE_PORT, BOTH])
def test_a_port_is_its_service_s_alone(options: tuple[int, ...]) -> None:
    """Of another process of the same user too, whatever that asks for."""
    with serving("udpecho", "--listen", f"{HERE}:0") as (_, port), pytest.raises(OSError, match="already in use"):
        bound(HERE, port, options)


@pytest.mark.parametrize("options", [(), REUSE_PORT, BOTH])
def test_reuse_port_lets_no_other_user_in(options: tuple[int, ...]) -> None:
    """Processes of the same user share it."""
    with serving("udpecho", "--listen", f"{HERE}:0", "--reuse-port") as (_, port):
        with as_user(NOBODY), pytest.raises(OSError, match="already in use"):
            bound(HERE, port, options)
        bound(HERE, port, REUSE_PORT).close()


def test_a_member_s_port_is_anybody_s(hosts: Hosts) -> None:
    """Who came last gets what comes by unicast, whoever it is; members' port numbers are not for secrets."""
    one, two = hosts(2)
    command = (BIN / "twistd", "-n", "--pidfile=", "udpmulticast", "--interface", INTERFACE)
    with one.start(*command) as process, two.udp_socket(two.ipv4) as asking:
        process.wait_for("joined")
        with one.entered(), as_user(NOBODY), bound("0.0.0.0", 9999, BOTH) as other:
            other.settimeout(20)
            asking.sendto(PING, (one.ipv4, 9999))
            assert other.recvfrom(100) == (PING, asking.getsockname())
