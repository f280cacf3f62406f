"""What config/bgp/ does, in both families: an address is announced as long as it is served, and little is lost else."""

import contextlib
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clusters.anycast import ANYCAST, BGP, PORT, Node, Site, site
from tests.clusters.recipes import variables
from tests.support import BIN, PATIENCE, run, tool, wait_until
from tests.system.load import Load


@contextlib.contextmanager
def loads(where: Site) -> Iterator[list[Load]]:
    """One in each family."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(where.load(family)) for family in ANYCAST]


def all_keep_up(running: list[Load]) -> None:
    for load in running:
        load.keeps_up()


def test_drain(two_nodes: Site) -> None:
    """Nothing is lost: the address is withdrawn at the signal, and what still comes is answered until the end."""
    rest, leaving = two_nodes.nodes
    with loads(two_nodes) as running:
        leaving.signal(signal.SIGTERM)
        two_nodes.wait_for(rest)
        assert leaving.service.wait() == 0
        all_keep_up(running)
        leaving.serve()
        two_nodes.wait_for(rest, leaving)
        all_keep_up(running)
        assert [load.end() for load in running] == [0, 0]


def killed(node: Node) -> None:
    node.signal(signal.SIGKILL)


def hung(node: Node) -> None:
    node.signal(signal.SIGSTOP)


def told_twice(node: Node) -> None:
    """It ends without a drain."""
    node.signal(signal.SIGTERM)
    node.service.wait_for("draining")
    node.signal(signal.SIGTERM)


@pytest.mark.parametrize("ends", [killed, hung, told_twice])
def test_end(two_nodes: Site, ends: Callable[[Node], None]) -> None:
    """The address is withdrawn; until then what arrives at the node is lost, and nothing else is."""
    rest, failing = two_nodes.nodes
    with loads(two_nodes) as running:
        before, waiting = failing.arrived(), sum(load.unanswered() for load in running)
        ends(failing)
        two_nodes.wait_for(rest)
        all_keep_up(running)
        arrived = failing.arrived() - before
        assert sum(load.end() for load in running) <= waiting + arrived
    failing.signal(signal.SIGKILL)
    failing.service.wait()
    failing.serve()
    two_nodes.wait_for(rest, failing)


def test_a_node_that_is_cut_off(two_nodes: Site) -> None:
    """The router gives it up after the hold time, and takes it back when it is there again."""
    rest, cut = two_nodes.nodes
    cut.host.down()
    two_nodes.wait_for(rest)
    with loads(two_nodes) as running:
        assert [load.end() for load in running] == [0, 0]
    cut.host.up()
    two_nodes.wait_for(rest, cut)


def test_taken_out_by_hand(two_nodes: Site) -> None:
    """The service goes on, and nothing is lost."""
    rest, other = two_nodes.nodes
    with loads(two_nodes) as running:
        with other.disabled():
            two_nodes.wait_for(rest)
            all_keep_up(running)
        two_nodes.wait_for(rest, other)
        all_keep_up(running)
        assert [load.end() for load in running] == [0, 0]


def test_exabgp_is_killed(two_nodes: Site) -> None:
    """Nobody tells of the node then, and it is announced again when exabgp is started again."""
    rest, mute = two_nodes.nodes
    mute.speaker.stop(signal.SIGKILL)
    two_nodes.wait_for(rest)
    mute.speak()
    two_nodes.wait_for(rest, mute)


class Flows:
    """Connected sockets of the client's, which hear the address that they asked and no other."""

    def __init__(self, where: Site, family: str, count: int) -> None:
        kind = socket.AF_INET if family == "-4" else socket.AF_INET6
        with where.client.entered():
            self.sockets = [socket.socket(kind, socket.SOCK_DGRAM) for _ in range(count)]
        for sock in self.sockets:
            sock.settimeout(PATIENCE)
            sock.connect((ANYCAST[family], PORT))

    def nodes(self) -> list[str]:
        """Which node answers each flow."""
        for sock in self.sockets:
            sock.send(b"who?")
        return [sock.recv(64).decode() for sock in self.sockets]

    def of_both(self) -> list[str] | None:
        """That, as long as both nodes answer some: a busy machine's check fails now and then."""
        found = self.nodes()
        return found if set(found) == {"node1", "node2"} else None

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def serve_names(node: Node) -> None:
    """Have a node answer by its name."""
    name = node.folder.name
    (node.folder / "who.py").write_text(f"def answer(datagram, peer):\n    return b'{name}'\n")
    node.serve("udpserve", "--protocol", "who.answer")


def test_a_flow_keeps_its_node(tmp_path: Path) -> None:
    """As long as the paths are the same; the answers leave from the address that was asked."""
    with site(tmp_path) as found, contextlib.ExitStack() as opened:
        one, other = found.nodes
        serve_names(one)
        found.wait_for(one)  # and not for one that does not serve yet
        serve_names(other)
        found.wait_for(one, other)
        flows = [opened.enter_context(contextlib.closing(Flows(found, family, 64))) for family in ANYCAST]
        before = [wait_until(those.of_both, "flows to both nodes") for those in flows]
        wait_until(lambda: [those.nodes() for those in flows] == before, "them to keep their nodes")
        with other.disabled():
            found.wait_for(one)
            assert [set(those.nodes()) for those in flows] == [{"node1"}, {"node1"}]
        found.wait_for(one, other)
        wait_until(lambda: [those.nodes() for those in flows] == before, "them to return")


def test_every_name_of_a_recipe_is_explained() -> None:
    """Those in one file or more are in the other, and none is of no use."""
    used = {name for path in BGP.iterdir() for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    assert used == set(variables(BGP / "anycast.env"))


def test_the_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    unit = tmp_path / "exabgp.service"
    unit.write_text((BGP / "exabgp.service").read_text().replace("/opt/exabgp/bin", str(BIN)))
    verified = run(tool("systemd-analyze"), "verify", unit)
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")
