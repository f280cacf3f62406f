"""Who attacks and who is attacked: our commands and stock responders on hosts, and what the kernel counted there."""

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.network.hosts import INTERFACE, Host
from tests.network.raw import accept_any_source
from tests.support import BIN, Process, wait_until
from udpservices.net.addresses import endpoint_text

TWISTD = (BIN / "twistd", "-n", "--pidfile=")
_STOCK = (sys.executable, Path(__file__).with_name("stock.py"))


@contextmanager
def together(*processes: Process, sockets: int = 2) -> Iterator[None]:
    """These processes, started at once, as soon as each listens on so many sockets, until all have ended."""
    with ExitStack() as running:
        for process in processes:
            running.enter_context(process)
        for process in processes:
            process.wait_for(rf"(?s)(listening on \S+:\d+/udp.*){{{sockets}}}")
        yield


def stock(host: Host, *words: str) -> Process:
    """Responders on Twisted's own ports; `words` are those of stock.py."""
    host.sysctl("ipv6.bindv6only", 1)  # Twisted leaves it to this whether both families can have a socket
    return host.start(*_STOCK, *words)


def bundle(host: Host, path: Path, text: str) -> Process:
    """``udpservices`` with this text for its config file."""
    path.write_text(text)
    return host.start(*TWISTD, "udpservices", "--config", path)


class Total(NamedTuple):
    """What a service says when it stops."""

    received: int
    answered: int
    dropped: int


def total(process: Process, label: str) -> Total:
    """Stop a process; what one of its services did."""
    process.stop()
    assert "Traceback" not in process.output, process.output
    found = process.wait_for(rf" {label} stopped: (\d+) received, (\d+) answered, (\d+) dropped")
    return Total(*map(int, found.groups()))


def refused(host: str, port: int, option: str) -> str:
    """A pattern for the line about whom a guard refused, and by which option it would not have."""
    return rf"refused {re.escape(endpoint_text(host, port))} \([^)]*; {option}\)"


def accept_own_source(host: Host) -> None:
    """Let datagrams in that come from outside, and are from this very host as they say; IPv6 lets them in anyway."""
    accept_any_source(host)
    for interface in ("all", INTERFACE):
        host.sysctl(f"ipv4.conf.{interface}.accept_local", 1)


def counted(host: Host, version: int) -> dict[str, int]:
    """What the kernel counted of UDP over IPv4 or IPv6 on this host: ``InDatagrams``, ``OutDatagrams``, …

    The first is counted when a process reads it, ``InErrors`` when a filter refused it or a queue was full.
    """
    folder = Path("/proc/thread-self/net")
    with host.entered():
        if version == 6:
            found = re.findall(r"^Udp6(\w+)\s+(\d+)$", (folder / "snmp6").read_text(), re.MULTILINE)
        else:
            names, values = re.findall("^Udp: (.*)$", (folder / "snmp").read_text(), re.MULTILINE)
            found = list(zip(names.split(), values.split(), strict=True))
    return {name: int(value) for name, value in found}


def settled(host: Host, version: int) -> int:
    """How many datagrams came to this host and were read since, or dropped."""
    known = counted(host, version)
    return sum(known.get(name, 0) for name in ("InDatagrams", "InErrors", "NoPorts", "IgnoredMulti"))


def wait_to_settle(host: Host, version: int, count: int) -> None:
    """Wait until so many datagrams that came to this host were read, or dropped."""
    wait_until(lambda: settled(host, version) >= count, f"{count} datagrams to be read or dropped by {host}")


def wait_to_send(host: Host, version: int, count: int) -> None:
    """Wait until so many datagrams left this host."""
    wait_until(lambda: counted(host, version)["OutDatagrams"] >= count, f"{count} datagrams to leave {host}")
