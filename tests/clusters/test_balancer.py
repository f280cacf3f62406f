"""What config/nginx/ does: with backends that end, and with the addresses of clients."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator

import pytest

from tests.clusters.balancer import HERE, PATIENCE, PORT, THERE, Balancer
from tests.support import Process, wait_until

# nginx's socket is no larger than it may be without rights: at this rate it has a second of it on any machine.
RATE = 200


@contextlib.contextmanager
def all_running(
    front: Balancer, *options: str, transparent: bool = False, edit: tuple[str, str] | None = None
) -> Iterator[list[Process]]:
    """nginx and both backends, with options of theirs; the processes of these and of nginx."""
    with contextlib.ExitStack() as opened:
        services = [opened.enter_context(backend.serving(*options)) for backend in front.backends]
        yield [*services, opened.enter_context(front.running(transparent=transparent, edit=edit))]


def test_drain(front: Balancer) -> None:
    """Nothing is lost: nginx goes to the next backend for what it cannot send, and what is under way still comes."""
    with all_running(front, "--drain", "2s") as (_, leaving, _), front.load(RATE) as load:
        front.follow("Take a backend out", 0)
        assert leaving.stop() == 0
        load.sends(RATE)
        with front.backends[1].serving() as again:
            front.follow("Take a backend out", 1)
            again.wait_for("received", PATIENCE)
            load.keeps_up()
            assert load.end() == 0


def test_drain_of_clients_with_their_addresses(front: Balancer) -> None:
    """In both families."""
    with (
        all_running(front, "--drain", "2s", transparent=True) as (_, leaving, _),
        front.load(RATE) as load,
        front.load(RATE, "-6") as load6,
    ):
        front.follow("Take a backend out", 0)
        rule = ("pref", "100", "to", front.backends[1].host.ipv6, "ipproto", "udp", "dport", str(PORT))
        front.host.ip("-6", "rule", "add", *rule, "type", "unreachable")
        assert leaving.stop() == 0
        load.sends(RATE)
        assert (load.end(), load6.end()) == (0, 0)


def test_reload(front: Balancer) -> None:
    """A backend that is `down` gets nothing; what is under way may be lost, and no more."""
    with all_running(front) as (_, leaving, _), front.load(RATE) as load:
        front.edit(":9999 ", ":9999 down ")
        front.edit("198.51.100.2:9999 down", "198.51.100.2:9999")
        front.follow("Take a backend out", 2)

        def gets_nothing() -> bool:
            leaving.says("$")
            before = len(leaving.output)
            load.sends(RATE)
            leaving.says("$")
            return len(leaving.output) == before

        wait_until(gets_nothing, "nothing to be sent there")
        load.keeps_up()
        assert load.end() <= RATE


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_dead(front: Balancer, how: signal.Signals) -> None:
    """A backend that is killed, or hangs, is left out: what it would have had of five seconds is lost at the most."""
    with all_running(front) as (_, failing, _), front.load(RATE) as load:
        os.kill(failing.pid, how)
        load.sends(RATE * 10)
        assert load.end() <= RATE * 5 / 2


PEER = re.compile(r"received .* from (\S+)$", re.MULTILINE)


def peers(services: list[Process]) -> set[str]:
    """The addresses of all whom the backends heard."""
    for service in services:
        service.says("$")
    found = {text for service in services for text in PEER.findall(service.output)}
    return {text.rpartition(":")[0].strip("[]") for text in found}


@pytest.mark.parametrize("transparent", [False, True])
def test_whom_backends_see(front: Balancer, transparent: bool) -> None:
    with all_running(front, transparent=transparent) as (*services, _):
        for net in (HERE, THERE):
            for family in ("-4", "-6"):
                assert front.clients.ask(net.nginx[family], PORT, b"hello") == b"hello"
        clients = {*HERE.client.values(), *THERE.client.values()}
        wait_until(lambda: peers(services) == (clients if transparent else {front.host.ipv4}), "them to be seen")


def test_access_lists_of_backends(front: Balancer) -> None:
    """They hold where backends see who asks."""
    denied = ("--deny", f"{HERE.client['-4']}/32")
    with all_running(front, *denied, transparent=True), pytest.raises(TimeoutError):
        front.clients.ask(HERE.nginx["-4"], PORT, b"hello", patience=0.5)
    with all_running(front, *denied):
        assert front.clients.ask(HERE.nginx["-4"], PORT, b"hello") == b"hello"


@pytest.mark.parametrize("max_fails", [1, 0])
def test_a_datagram_that_a_backend_drops(front: Balancer, max_fails: int) -> None:
    """To nginx it is a failure of the backend, and one client has all backends left out for the others."""
    denied = ("--deny", f"{HERE.client['-4']}/32")
    chosen = ("max_fails=1", f"max_fails={max_fails}")
    with (
        all_running(front, *denied, transparent=True, edit=chosen),
        front.load(RATE, net=THERE) as load,
        front.load(20, net=HERE, answered=False),
    ):
        load.sends(RATE * 5)
        assert bool(load.end()) == bool(max_fails)


def test_guard_before_nginx(front: Balancer) -> None:
    """It drops what comes from a port that answers, and what a network sends beyond its limit; others are served."""
    with all_running(front) as (*services, _):
        front.follow("Refuse before nginx")
        with front.clients.udp_socket(HERE.client["-4"], 7, timeout=0.5) as sock:
            sock.sendto(b"hello", (HERE.nginx["-4"], PORT))
            with pytest.raises(TimeoutError):
                sock.recv(64)
        assert not peers(services)
        for family in ("-4", "-6"):
            with front.load(20, family, THERE) as load, front.load(1000, family, answered=False) as eager:
                load.sends(40)
                eager.sends(1000)
                assert eager.end() > 0
                load.keeps_up()
                assert load.end() == 0
