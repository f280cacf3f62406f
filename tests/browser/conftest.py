"""One browser for all tests here, and services to look at."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.browser.chromium import Browser
from tests.support import BIN, Process, wait_for_handlers


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium. Each test opens pages of its own."""
    with Browser() as browser:
        yield browser


@dataclass
class Echo:
    """``udpecho`` with a status page."""

    process: Process
    port: int
    web: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web}/"


@contextmanager
def serving_echo(*words: str, port: int = 0, web: int = 0) -> Iterator[Echo]:
    """On loopback; both port numbers are the kernel's where none are given."""
    listen = ("--listen", f"127.0.0.1:{port}", "--metrics", f"127.0.0.1:{web}")
    with Process(BIN / "udpservices", "udpecho", *listen, *words) as process:
        udp = int(process.wait_for(r"udpecho listening on \S+:(\d+)/udp")[1])
        tcp = int(process.wait_for(r"metrics listening on \S+:(\d+)/tcp")[1])
        wait_for_handlers(process)
        yield Echo(process, udp, tcp)


@pytest.fixture
def echo() -> Iterator[Echo]:
    """It refuses 127.0.0.2."""
    with serving_echo("--deny", "127.0.0.2") as echo:
        yield echo


@pytest.fixture(scope="session")
def busy() -> Iterator[str]:
    """The address of a page with everything on it; what it shows is made up."""
    with Process(sys.executable, "-m", "tests.observe.web.processes") as process:
        address = process.wait_for(r"listening on (\S+)")[1]
        yield f"http://{address}/"
