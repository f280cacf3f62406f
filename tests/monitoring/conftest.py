"""Services of every kind with two workers, under load, and a Prometheus that looks on."""

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.monitoring.server import Prometheus, scraping
from tests.support import BIN, ROOT, Process, udp_socket, wait_for_handlers

# In two families, behind a guard whose filter has something to do, too slow for what comes, on a bad network, over a
# limit that only counts, one that hangs when it is told to, with a mistake, and with TCP beside it.
SERVICES = """
workers = 2
metrics = "127.0.0.1:0"

[echo]
command = "udpecho"
listen = ["127.0.0.1:0", "[::1]:0"]

[guarded]
command = "udpecho"
listen = "127.0.0.1:0"
deny = "127.0.0.9"

[slow]
command = "udpserve"
protocol = "tests.monitoring.protocols.Slow"
listen = "127.0.0.1:0"
receive-buffer = "4k"

[lossy]
command = "udpecho"
listen = "127.0.0.1:0"
drop = "50%"

[limited]
command = "udpecho"
listen = "127.0.0.1:0"
rate = 10
rate-dry-run = true

[hanging]
command = "udpserve"
protocol = "tests.monitoring.protocols.Hanging"
listen = "127.0.0.1:0"

[raising]
command = "udpserve"
protocol = "tests.monitoring.protocols.Raising"
listen = "127.0.0.1:0"

[time]
command = "udptime"
listen = "127.0.0.1:0"
tcp = "127.0.0.1:0"
"""

#: So many datagrams each has, and some of them more.
FEW, MANY = 500, 20_000

#: Sources: so many that either worker has some of them.
SOURCES = 32


@dataclass(frozen=True)
class Watched:
    """The services, and who watches them."""

    process: Process
    #: Where their metrics are: ``ADDR:PORT``.
    metrics: str
    config: Path
    prometheus: Prometheus
    #: The port number of each service.
    numbers: dict[str, int]
    #: Datagrams sent to each service, but those that a guard's filter refused.
    sent: dict[str, int]
    #: Datagrams sent to `guarded` by those whom it denies.
    denied: int


def send(number: int, count: int, host: str = "127.0.0.1") -> int:
    """Send so many datagrams, no two of which are the same, from many sources of an address; how many were sent."""
    with ExitStack() as opened:
        sources = [opened.enter_context(udp_socket(host)) for _ in range(SOURCES)]
        for index in range(count):
            sources[index % SOURCES].sendto(b"%d" % index, ("127.0.0.1", number))
    return count


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("services")
    config = folder / "services.toml"
    config.write_text(SERVICES)
    words = (BIN / "udpservices", "--config", config)
    with Process(*words, env={"PYTHONPATH": str(ROOT)}) as process:
        metrics = process.wait_for(r"metrics listening on (127\.0\.0\.1:\d+)/tcp")[1]
        wait_for_handlers(process)
        numbers = {
            name: int(process.wait_for(rf"\b{name} listening on 127\.0\.0\.1:(\d+)/udp")[1])
            for name in re.findall(r"^\[(\w+)\]", SERVICES, re.MULTILINE)
        }
        with scraping(metrics, tmp_path_factory.mktemp("prometheus")) as prometheus:
            prometheus.sees(f'up{{instance="{metrics}"}}', 1)
            # What a filter refuses is told from what found no room by what the whole host lost: so it comes first.
            denied = send(numbers["guarded"], MANY, "127.0.0.9")
            sent = {name: send(number, FEW) for name, number in numbers.items()}
            sent["slow"] += send(numbers["slow"], MANY)
            yield Watched(process, metrics, config, prometheus, numbers, sent, denied)
        process.stop(signal.SIGTERM)
