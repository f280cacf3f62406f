"""Days of traffic, squeezed: ``make soak`` runs a bundle of services under it, and looks whether anything grows.

Sources are many: any address of 127.0.0.0/8, any port number, here and gone. So are sizes, bursts and segmented sends.
Many a source has gone when its answer comes, which the kernel reports by ICMP; one service greets a port at which
nobody listens.
"""

import gc
import os
import re
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from twisted.internet.protocol import DatagramProtocol

from tests.support import ROOT, Process, ask, twistd, udp_socket
from udpservices.transport.engine.gso import MAX_SEGMENTS, SEGMENTING, SOL_UDP, UDP_SEGMENT
from udpservices.transport.engine.peers import Peer

#: How long it takes, in seconds, unless the environment says otherwise.
SECONDS = 60.0

#: The share of it in which tables fill and nothing is looked at.
WARM_UP = 1 / 3

#: What may come and go without anything leaking. Peers are kept in tables that are bounded, and are not counted.
MORE_OBJECTS = 1000
MORE_MEMORY = 8 << 20
MORE_DESCRIPTORS = 2  # the client that is refused opens ports

SIZES = [0, 1, 8, 64, 64, 64, 512, 1200, 1400, 9000, 65_507]

CONFIG = """
[udpecho]
listen = "127.0.0.1:0"

[wildcard]
command = "udpecho"
listen = "0.0.0.0:0"

[lossy]
command = "udpecho"
listen = "127.0.0.1:0"
drop = "5%"
duplicate = "5%"
reorder = "5%"
delay = "1ms"

[unchanged]
command = "udpserve"
protocol = "tests.soak.Unchanged"
listen = "127.0.0.1:0"

[udptime]
listen = "127.0.0.1:0"

[udplength]
listen = "127.0.0.1:0"

[udpdiscard]
listen = "127.0.0.1:0"

[census]
command = "udpserve"
protocol = "tests.soak.Census"
listen = "127.0.0.1:0"

[udphello]
target = "127.0.0.1:{refusing}"
interval = "5ms"
max-interval = "10ms"
"""


class Unchanged(DatagramProtocol):
    """As anybody would write it."""

    transport: Any

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


class Census(Unchanged):
    """Tells how many objects this process has, without those that tables of peers hold."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        gc.collect()
        count = sum(type(each) is not Peer for each in gc.get_objects())
        super().datagramReceived(b"%d" % count, addr)


class Sample(NamedTuple):
    """What a process takes."""

    objects: int
    memory: int
    descriptors: int


class Soak:
    """A bundle of services, and the traffic that it gets."""

    def __init__(self, process: Process, seed: int) -> None:
        self._process = process
        self._random = Random(seed)
        process.wait_for("census listening")
        found = re.findall(r"(\w+) listening on \S+:(\d+)/udp", process.output)
        self._ports = {name: int(port) for name, port in found}
        self._census = self._ports.pop("census")
        #: How many datagrams each service was sent.
        self.sent: Counter[str] = Counter()

    def sample(self) -> Sample:
        """What the bundle takes now."""
        self._process.wait_for("")  # and what it has logged, or it would wait for room to log more
        proc = Path(f"/proc/{self._process.pid}")
        return Sample(
            int(ask("127.0.0.1", self._census, b"")),
            int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
            len(list((proc / "fd").iterdir())),
        )

    def talk(self, seconds: float) -> None:
        """Send for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(20):
                self._burst()

    def _burst(self) -> None:
        """A source says a few things to one service, and seldom waits for an answer."""
        random = self._random
        name, port = random.choice(list(self._ports.items()))
        source = f"127.{random.randrange(256)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        target = f"127.0.0.{random.randrange(1, 255)}" if name == "wildcard" else "127.0.0.1"
        with udp_socket(source, timeout=0.01) as sock:
            for _ in range(random.choice([1, 1, 2, 8, 40])):
                size = random.choice(SIZES)
                count = random.randrange(2, 20) if 0 < size < 1500 and random.random() < 0.2 else 1
                control = [(SOL_UDP, UDP_SEGMENT, struct.pack("@H", size))] if count > 1 else []
                sock.sendmsg([random.randbytes(size) * count], control, 0, (target, port))
                self.sent[name] += count
            if random.random() < 0.1:
                with suppress(TimeoutError):
                    sock.recv(65_535)

    def check(self) -> None:
        """Every datagram is accounted for: received, or dropped by the kernel, which had no room for it."""
        queued = True
        while queued:
            sockets = self._sockets()
            queued = any(sockets[port][0] for port in self._ports.values())
        assert ask("127.0.0.1", self._ports["udpecho"], b"still there") == b"still there"
        self.sent["udpecho"] += 1
        self._process.stop()
        assert "no one listening" in self._process.output
        assert "Traceback" not in self._process.output, self._process.output
        for name, port in self._ports.items():
            found = re.search(rf"{name} stopped: (\d+) received", self._process.output)
            assert found, self._process.output
            received, dropped = int(found[1]), sockets[port][1]
            # A flow in one piece that finds no room counts once in the kernel.
            longest = MAX_SEGMENTS if SEGMENTING else 1
            assert received + dropped <= self.sent[name] <= received + dropped * longest, name

    def _sockets(self) -> dict[int, tuple[int, int]]:
        """What is queued and what was dropped, by port number (proc_net(5), the last column)."""
        lines = [line.split() for line in Path("/proc/net/udp").read_text().splitlines()[1:]]
        return {int(line[1].split(":")[1], 16): (int(line[4].split(":")[1], 16), int(line[-1])) for line in lines}


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port number at which nobody listens: who has it is connected elsewhere."""
    with udp_socket() as sock, udp_socket() as other:
        sock.connect(other.getsockname())
        yield int(sock.getsockname()[1])


def soak(seconds: float, folder: Path, seed: int = 0) -> list[Sample]:
    """Run it; what the bundle took once it was warm, sample by sample. Raises AssertionError where something grows."""
    file = folder / "soak.toml"
    with refusing_port() as refusing:
        file.write_text(CONFIG.format(refusing=refusing))
        with twistd("udpservices", "--config", file, cwd=ROOT) as process:
            run = Soak(process, seed)
            run.talk(seconds * WARM_UP)
            samples = [run.sample()]
            for _ in range(8):
                run.talk(seconds * (1 - WARM_UP) / 8)
                samples.append(run.sample())
            run.check()
    print(f"{run.sent.total()} datagrams were sent")
    before = samples[0]
    for after in samples[1:]:
        assert after.objects <= before.objects + MORE_OBJECTS, samples
        assert after.memory <= before.memory + MORE_MEMORY, samples
        assert after.descriptors <= before.descriptors + MORE_DESCRIPTORS, samples
    return samples


def main() -> None:
    """Run it for as long as ``SOAK_SECONDS`` says, and print what it took."""
    seconds = float(os.environ.get("SOAK_SECONDS", SECONDS))
    with tempfile.TemporaryDirectory() as folder:
        for sample in soak(seconds, Path(folder), seed=int(time.time())):
            print(f"{sample.objects} objects, {sample.memory >> 10} KiB, {sample.descriptors} descriptors")


if __name__ == "__main__":
    main()
