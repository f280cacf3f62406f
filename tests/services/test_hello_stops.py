"""``udphello`` stops at once, whatever its name server does; and no command imports anything in a jail."""

import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.runners import FOREGROUND
from tests.services.streaming import connected, echoes
from tests.support import Process, need_root, serving, udp_socket

# Runs a script with a C library that hangs, as one does whose name server is silent. It tells so when the reactor has
# its signal handlers.
HANGING = """
import runpy, signal, socket, sys, time
def hang(*question):
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.01)
    print("hangs", file=sys.__stderr__, flush=True)
    time.sleep(60)
socket.getaddrinfo = hang
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# Runs a script, and tells what it imports after chroot(2).
JAILED = """
import os, runpy, sys
told = []
def tell(event, words):
    if event == "os.chroot":
        told.append(None)
    elif event == "import" and told and words[0] not in told:
        told.append(words[0])
        os.write(2, f"imports {words[0]}\\n".encode())
chroot = os.chroot
def watched(path):
    tell("os.chroot", path)
    chroot(path)
os.chroot = watched
sys.addaudithook(tell)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("runner", FOREGROUND)
def test_while_a_name_is_looked_up(runner: str, how: signal.Signals) -> None:
    """A reactor that stops waits for its threads, so look-ups have threads of their own."""
    with Process(
        sys.executable, "-c", HANGING, *FOREGROUND[runner], "udphello", "--target", "peer.example:9"
    ) as process:
        process.wait_for("^hangs$")
        began = time.monotonic()
        process.stop(how)
        assert time.monotonic() - began < 3
        process.wait_for("udphello stopped: 0 sent, 0 received, 0 dropped")
    assert "Traceback" not in process.output


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """What the C library needs to know one name."""
    need_root()
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    etc = tmp_path / "etc"
    etc.mkdir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", etc)
    (etc / "hosts").write_text("127.0.0.1 peer.example xn--bcher-kva.example\n")
    (etc / "nsswitch.conf").write_text("hosts: files\n")
    return tmp_path


def jailed(jail: Path, *words: str) -> Process:
    twistd = (*FOREGROUND["twistd -n"], "--chroot", str(jail), "--uid", "nobody", "--gid", "nogroup")
    return Process(sys.executable, "-c", JAILED, *twistd, *words)


@pytest.mark.parametrize("name", ["peer.example", "b\xfccher.example"])
def test_names_in_a_jail(jail: Path, name: str) -> None:
    """Python's codec for names is found only before chroot(2)."""
    with serving("udpecho", "--listen", "127.0.0.1:0") as (_, port):
        with jailed(jail, "udphello", "--target", f"{name}:{port}") as process:
            process.wait_for(rf"udphello got b'Hello!' from 127\.0\.0\.1:{port}$")
            process.stop()
        assert "Traceback" not in process.output
        assert "imports " not in process.output


BUNDLE = """
[udpecho]
listen = "127.0.0.1:0"
tcp = 0
deny = "127.0.0.2"
log-datagrams = true
delay = "1ms"
[udptime]
listen = "127.0.0.1:0"
tcp = 0
rate = 1
[udplength]
listen = "127.0.0.1:0"
[udpdiscard]
port = 0
tcp = 0
[udpserve]
protocol = "udpservices.services.echo.Echo"
listen = "[::1]:0"
[udpmulticast]
port = 0
interface = "lo"
ping-interval = "100ms"
[beacons]
command = "udpbroadcast"
port = 0
address = "127.255.255.255"
[known]
command = "udphello"
target = "peer.example:{port}"
[unknown]
command = "udphello"
target = "nobody.example:{port}"
"""


def test_no_command_imports_anything_in_a_jail(jail: Path) -> None:
    """All of them at work: what they need later they have before they lose it."""
    with ExitStack() as running:
        _, port = running.enter_context(serving("udpecho", "--listen", "127.0.0.1:0"))
        config = jail / "services.toml"
        config.write_text(BUNDLE.format(port=port))
        process = running.enter_context(jailed(jail, "udpservices", "--config", str(config)))
        process.wait_for("known got b'Hello!'")
        process.wait_for(r"unknown: .*nobody\.example")
        process.wait_for("udpdiscard listening on .*/tcp")
        for command in ("udpecho", "udptime", "udplength"):
            number = re.search(rf"{command} listening on 127\.0\.0\.1:(\d+)/udp", process.output)
            assert number is not None
            for _ in range(3):
                with udp_socket() as client:
                    client.sendto(b"hello", ("127.0.0.1", int(number[1])))
                    if command != "udptime":
                        assert client.recv(100)
        stream = re.search(r"udpecho listening on 127\.0\.0\.1:(\d+)/tcp", process.output)
        assert stream is not None
        with connected(int(stream[1])) as sock:
            assert echoes(sock)
        process.stop()
        assert "Traceback" not in process.output
        assert "imports " not in process.output
