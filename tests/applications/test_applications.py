"""Applications of other people's, as they are installed, on our reactor by one flag: ``make test-applications``.

They have an environment of their own, since they pin much of what they need.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.machine import free_port
from tests.support import ROOT, Process, missing, run, tool, udp_socket, wait_until

BIN = ROOT / ".venv-applications" / "bin"

REACTORS = ["udpepoll", "udpasyncio"]


def twistd(*words: str | Path, cwd: Path, **environment: str) -> Process:
    """Of that environment."""
    if not (BIN / "twistd").exists():
        missing(f"there is no {BIN}: make test-applications")
    return Process(BIN / "twistd", "-n", "--pidfile=", *words, cwd=cwd, env=environment)


# carbon-cache: takes metrics for Graphite. It opens its socket itself and hands it to `adoptDatagramPort`.


@pytest.mark.parametrize("reactor", REACTORS)
def test_carbon_stores_what_netcat_sends(reactor: str, tmp_path: Path) -> None:
    """And what others do, several metrics a datagram, is in its files."""
    ports = {name: free_port() for name in ("UDP_RECEIVER", "LINE_RECEIVER", "PICKLE_RECEIVER", "CACHE_QUERY")}
    lines = [line for name, port in ports.items() for line in (f"{name}_INTERFACE=127.0.0.1", f"{name}_PORT={port}")]
    lines += ["ENABLE_UDP_LISTENER=True", "MAX_CREATES_PER_MINUTE=inf"]
    (tmp_path / "carbon.conf").write_text("\n".join(["[cache]", *lines]))
    (tmp_path / "storage-schemas.conf").write_text("[all]\npattern = .*\nretentions = 1s:1h\n")
    words = (f"--reactor={reactor}", "carbon-cache", "--config", tmp_path / "carbon.conf")
    with twistd(*words, cwd=tmp_path, GRAPHITE_ROOT=str(tmp_path), GRAPHITE_CONF_DIR=str(tmp_path)) as process:
        process.wait_for(rf"MetricDatagramReceiver starting on {ports['UDP_RECEIVER']}")
        now = int(time.time())
        with udp_socket() as client:
            for first in range(0, 30, 10):
                lines = [f"tests.metric{number} {number} {now}\n" for number in range(first, first + 10)]
                client.sendto("".join(lines).encode(), ("127.0.0.1", ports["UDP_RECEIVER"]))
        netcat = (tool("nc"), "-4u", "-w1", "127.0.0.1", str(ports["UDP_RECEIVER"]))
        assert run(*netcat, input=f"tests.netcat 7 {now}\n").returncode == 0
        folder = tmp_path / "storage" / "whisper" / "tests"
        wait_until(lambda: folder.exists() and len(list(folder.iterdir())) == 31, "the files of all metrics")
        wait_until(lambda: f"{now}\t7.000000" in fetched(folder / "netcat.wsp", now), "the value of one")
        process.stop()
        assert "Traceback" not in process.output


def fetched(path: Path, now: int) -> str:
    """What carbon stored, as its own tool shows it."""
    return run(BIN / "whisper-fetch.py", f"--from={now - 2}", f"--until={now + 2}", path).stdout


# OpenCanary: a honeypot, which logs what it is asked. Its .tac file is run as its own script runs it.


def as_tftp(port: int) -> None:
    """Its TFTP server answers nothing."""
    run(tool("curl"), "--max-time", "1", f"tftp://127.0.0.1:{port}/secrets.txt")


def as_sip(port: int) -> None:
    run(tool("sipsak"), "-s", f"sip:phone@127.0.0.1:{port}", "-D", "1", timeout=20)


def as_ntp(port: int) -> None:
    """The first datagram of a reflection attack: monlist."""
    with udp_socket() as client:
        client.sendto(b"\x17\x00\x03\x2a" + bytes(4), ("127.0.0.1", port))


ASKED: list[tuple[str, Callable[[int], None], str]] = [
    ("tftp", as_tftp, "secrets.txt"),
    ("sip", as_sip, "sipsak"),
    ("ntp", as_ntp, "monlist"),
]


@pytest.mark.parametrize("reactor", REACTORS)
def test_opencanary_logs_what_it_is_asked(reactor: str, tmp_path: Path) -> None:
    """By TFTP, SIP and NTP, with who asked."""
    ports = {name: free_port() for name, _, _ in ASKED}
    log = tmp_path / "canary.log"
    handlers = {"file": {"class": "logging.FileHandler", "filename": str(log)}}
    logger = {"class": "PyLogger", "kwargs": {"formatters": {}, "handlers": handlers}}
    modules = {f"{name}.{key}": value for name in ports for key, value in (("enabled", True), ("port", ports[name]))}
    config = {"device.node_id": "tests", "device.listen_addr": "127.0.0.1", "logger": logger, **modules}
    (tmp_path / "opencanary.conf").write_text(json.dumps(config))
    with twistd(f"--reactor={reactor}", "-y", BIN / "opencanary.tac", cwd=tmp_path, HOME=str(tmp_path)) as process:
        for kind in ("MiniNtp", "SIPServer", "Tftp"):
            process.wait_for(rf"{kind} starting on \d+")
        for name, ask, told in ASKED:
            ask(ports[name])
            (event,) = wait_until(lambda: asked(log, ports[name]), f"what OpenCanary logs of {name}")  # noqa: B023
            assert told in json.dumps(event["logdata"])
            assert (event["dst_host"], event["src_host"]) == ("127.0.0.1", "127.0.0.1")
        process.stop()
        assert "Traceback" not in process.output


def asked(log: Path, port: int) -> list[dict[str, object]]:
    """The events of a port, once each."""
    events = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return [event for event in events if event["dst_port"] == port][:1]
