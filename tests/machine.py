"""This machine: its descriptors, its port numbers and its users."""

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.support import need_root, tool


def count_descriptors() -> int:
    """How many descriptors this process has open, duplicates too."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def leaking_nothing() -> Iterator[None]:
    """As many descriptors are open at the end as at the beginning, and nobody had to wait for the collector."""
    before = count_descriptors()
    yield
    assert count_descriptors() == before, "descriptors leak"


def free_port() -> int:
    """A port number that is free for UDP and TCP in both families, and not one of those that the kernel gives away."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for number in random.sample(range(10_000, lowest), 100):
        with contextlib.suppress(OSError):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET6, kind) as sock:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                    sock.bind(("::", number))
            return number
    raise AssertionError("no port number is free")


def as_ordinary_user(*words: str | Path) -> list[str | Path]:
    """A command as the user nobody runs it, who may read what root may, such as an interpreter in root's home.

    That is one capability (CAP_DAC_READ_SEARCH), and it opens no port.
    """
    need_root()
    nobody = ("--reuid=nobody", "--regid=nogroup", "--clear-groups", "--no-new-privs")
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    return [tool("setpriv"), *nobody, *reading, *words]
