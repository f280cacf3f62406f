"""Who takes part, and how each is started."""

import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.cases import BUSY, GSO, LOADS, MANY_SOURCES, Case

BIN = Path(sys.executable).parent
SERVERS = Path(__file__).resolve().parent / "servers"

#: What users run: the commands with their default options, and what they may run instead.
CONTESTANTS = {
    "udpecho": "`twistd udpecho`",
    "udpserve": "`twistd udpserve`",
    "stock": "Twisted's port, same protocol",
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "c-one": "C, recvfrom/sendto",
    "c-many": "C, recvmmsg/sendmmsg",
}

#: Our port without a command around it, to see where time goes.
BARE_PORTS = {"echo": "bare port, `Echo`", "unchanged": "bare port, unchanged protocol"}

#: An asyncio protocol on our port.
ON_OUR_PORT = {
    "asyncio-ours": "our port on asyncio's loop",
    "uvloop-ours": "our port on uvloop's loop",
    "udpserve-asyncio": "`udpservices udpserve`, asyncio's protocol",
}

#: A whole application, on Twisted's reactor and on ours.
DNS_SERVERS = {"dns-epoll": "`twistd --reactor=epoll dns`", "dns-udpepoll": "`twistd --reactor=udpepoll dns`"}

#: A lane is a contestant, or one of the commands with other options: ``udpecho@bare``.
VARIANTS = {
    "bare": "no guard, no limit, one address",
    "changing": "another last byte in each answer",
    "networks": "1,000 networks to refuse",
    "refusing": "1,001 networks to refuse",
    "unlimited": "no limit",
    "below": "a limit that the port stays below",
    "above": "a limit that the port is above and no source is over",
    "limited": "10 datagrams a second",
    "busy": "a handler of 50 µs",
}

_PROTOCOLS = {"changing": "protocol.Changing", "busy": "timer.Busy"}

_OPTIONS = {
    "bare": ["--no-loop-guard", "--rate", "0"],
    "networks": ["--deny-file", "NETWORKS"],
    "refusing": ["--deny-file", "NETWORKS", "--deny", "127.0.0.0/8"],
    "unlimited": ["--rate", "0"],
    "below": ["--rate", "1000000"],
    "above": ["--rate", "10000", "--rate-prefix", "32,56"],
    "limited": ["--rate", "10"],
}

#: What takes part in some loads besides everybody.
_BESIDES = {
    BUSY: ("udpecho@networks", "udpserve@changing"),
    MANY_SOURCES: ("udpecho@networks", "udpserve@changing"),
    GSO: ("udpserve@changing",),
    LOADS[1].on_wildcard: tuple(ON_OUR_PORT),
    BUSY.on_wildcard: tuple(ON_OUR_PORT),
}


class Command(NamedTuple):
    """The words that start a server, and what it finds in its environment."""

    words: list[str]
    environment: dict[str, str]


def label(lane: str) -> str:
    """What a lane is called."""
    name, _, variant = lane.partition("@")
    named = {**CONTESTANTS, **BARE_PORTS, **ON_OUR_PORT, **DNS_SERVERS}
    return named[name] + (f", {VARIANTS[variant]}" if variant else "")


def lanes(case: Case) -> list[str]:
    """Who takes part in a case, in the order of turns.

    On a wildcard, as users have it, everybody does, and the commands also without what they have by default; in two
    loads also an asyncio protocol on our port. On an explicit address our bare port does.
    """
    if case.wildcard:
        return [*CONTESTANTS, "udpecho@bare", "udpserve@bare", *_BESIDES.get(case, ())]
    everybody = [name for name in CONTESTANTS if name not in ("asyncio", "c-one")]
    return [*everybody, *BARE_PORTS, *_BESIDES.get(case, ())]


def command(lane: str, case: Case, folder: Path) -> Command:
    """How a lane is started for a case; `folder` has the C programs and the networks."""
    name, _, variant = lane.partition("@")
    protocol = f"benchmarks.servers.{_PROTOCOLS.get(variant, 'protocol.Unchanged')}"
    if name in DNS_SERVERS:
        words = [str(BIN / "twistd"), "-n", "--pidfile=", f"--reactor={name.removeprefix('dns-')}", "dns"]
        return Command(
            [*words, "--interface", case.listen_host, "--port", "0", "--pyzone", str(SERVERS / "zone.py")], {}
        )
    if name == "stock":
        words = [str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(SERVERS / "stock.py")]
        settings = {"PROTOCOL": protocol, "HOST": case.listen_host, "RECEIVE_BUFFER": str(case.receive_buffer)}
        return Command(words, {f"BENCHMARK_{key}": value for key, value in settings.items()})
    if name in ("udpecho", "udpserve"):
        options = ["--protocol", protocol] if name == "udpserve" else []
        options += [str(folder / "networks") if word == "NETWORKS" else word for word in _OPTIONS.get(variant, [])]
        if not case.wildcard or variant == "bare":
            options += ["--interface", case.target_host]
        if case.receive_buffer:
            options += ["--receive-buffer", str(case.receive_buffer)]
        return Command([str(BIN / "twistd"), "-n", "--pidfile=", name, "--port", "0", *options], {})
    if name == "udpserve-asyncio":
        log = ["--log-file", "/proc/self/fd/1"]
        protocol = "benchmarks.servers.asyncio_echo.Echo"
        return Command([str(BIN / "udpservices"), *log, "udpserve", "--protocol", protocol, "--port", "0"], {})
    where = [case.listen_host, "0", str(case.receive_buffer)]
    if name.startswith("c-"):
        return Command([str(folder / name.replace("c-", "echo_")), *where], {})
    if name.startswith(("asyncio", "uvloop")):
        return Command([sys.executable, "-m", "benchmarks.servers.asyncio_echo", *where, *name.split("-")], {})
    return Command([sys.executable, "-m", f"benchmarks.servers.{name}", *where], {})


def write_networks(folder: Path) -> None:
    """Write a thousand networks which the client is in none of, the same in each run."""
    random = Random(1)  # noqa: S311
    networks = (random.randrange(128 << 16, 224 << 16) for _ in range(1000))
    lines = (f"{number >> 16}.{number >> 8 & 255}.{number & 255}.0/24\n" for number in networks)
    (folder / "networks").write_text("".join(lines))
