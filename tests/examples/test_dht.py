"""examples/dht: a client and a server of one protocol on one port number, against the DHT of libtorrent."""

import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import pytest

from tests.packaging.conftest import build, copied
from tests.support import ROOT, Process, missing, run, serving, wait_until
from udpservices.net.addresses import endpoint_text

EXAMPLE = ROOT / "examples" / "dht"

Node = Callable[..., AbstractContextManager[tuple[Process, int]]]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, in which Twisted and Python may leave their caches."""
    caches = shutil.ignore_patterns("dropin.cache", "__pycache__", ".*", "dist")
    return Path(shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("examples") / "dht", ignore=caches))


@pytest.fixture
def node(example: Path, host: str) -> Node:
    """Runs a node of ours where it is copied to: Twisted finds the command, and Python the protocol, there."""
    return partial(serving, "udpdht", "--interface", host, "--port", "0", env={"PYTHONPATH": str(example)})


@pytest.fixture(scope="module")
def libtorrent() -> Any:
    """Somebody else's DHT; there are wheels of it for some machines and some versions of Python."""
    try:
        return import_module("libtorrent")
    except ImportError as error:
        missing(f"there is no libtorrent ({error})")


class Stranger:
    """A DHT node of libtorrent's, on one address of loopback, that talks to nobody else."""

    def __init__(self, libtorrent: Any, host: str, bootstrap: int | None = None) -> None:
        """`bootstrap` is the port number of the node that it asks for others."""
        self._libtorrent = libtorrent
        self._session = libtorrent.session(
            {
                "listen_interfaces": endpoint_text(host, 0),
                "enable_dht": True,
                "enable_lsd": False,
                "enable_upnp": False,
                "enable_natpmp": False,
                "dht_bootstrap_nodes": "" if bootstrap is None else endpoint_text(host, bootstrap),
                # Nodes on the Internet trust few nodes of one address, and none whose identity is not made of it.
                "dht_restrict_routing_ips": False,
                "dht_restrict_search_ips": False,
                "dht_enforce_node_id": False,
                "dht_prefer_verified_node_ids": False,
                "dht_ignore_dark_internet": False,
                "alert_mask": libtorrent.alert.category_t.all_categories,
            }
        )
        self.host = host
        self.port: int = wait_until(self._session.listen_port, "libtorrent to listen")

    def meet(self, port: int) -> None:
        """Tell it of another node at its address."""
        self._session.add_dht_node((self.host, port))

    def knows(self, own: bytes, port: int) -> bool:
        """Whether it has heard a node at a port number of its address; `own` is its own identity."""
        self._session.dht_live_nodes(self._libtorrent.sha1_hash(own))
        told = wait_until(self._live_nodes, "libtorrent to tell whom it knows")
        return any(node["endpoint"][1] == port for node in told[0].nodes)

    def _live_nodes(self) -> list[Any]:
        kind = self._libtorrent.dht_live_nodes_alert
        return [alert for alert in self._session.pop_alerts() if isinstance(alert, kind)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        del self._session


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    address: str = request.param
    return address


def identity(process: Process, stranger: Stranger) -> bytes:
    """Wait until our node knows a stranger; the stranger's identity."""
    where = re.escape(endpoint_text(stranger.host, stranger.port))
    return bytes.fromhex(process.wait_for(rf"knows ([0-9a-f]{{40}}) at {where}$")[1])


class TestLibtorrent:
    def test_asks_us_and_is_asked(self, libtorrent: Any, host: str, node: Node) -> None:
        """It takes our answers, so it knows us; we take its, so we know it: at the port number that it asked from."""
        with Stranger(libtorrent, host) as stranger, node() as (process, port):
            stranger.meet(port)
            own = identity(process, stranger)
            wait_until(lambda: stranger.knows(own, port), "libtorrent to know us")
            process.stop()
        assert "Traceback" not in process.output

    def test_finds_others_through_us_and_we_through_it(self, libtorrent: Any, host: str, node: Node) -> None:
        """The second asks us and is told of the first; then another node of ours asks the second."""
        with Stranger(libtorrent, host) as first, node() as (process, port):
            first.meet(port)
            identity(process, first)
            with Stranger(libtorrent, host, bootstrap=port) as second:
                own = identity(process, second)
                wait_until(lambda: second.knows(own, first.port), "the second to know the first")
                with node("--bootstrap", endpoint_text(host, second.port)) as (other, _):
                    identity(other, second)
                    identity(other, first)
                    other.stop()
                assert "Traceback" not in other.output


def test_begins_with_a_name_and_survives_its_absence(node: Node) -> None:
    """The one to begin with does not listen; nothing is wrong with that."""
    with node("--bootstrap", "localhost:9") as (process, _):
        process.stop()
        assert "Traceback" not in process.output
        assert "Unhandled" not in process.output


def test_its_own_tests_pass(example: Path) -> None:
    """A copy of the example starts green."""
    ended = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=example)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_wheel_holds_the_protocol_and_its_plugin_file_alone(tmp_path: Path) -> None:
    """What people copy must not break Twisted's installation."""
    build(copied(EXAMPLE, tmp_path / "dht"), tmp_path / "dist", "--wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        installed = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {f"udpdht/{path.name}" for path in (EXAMPLE / "udpdht").glob("*.py")}
    assert installed == {*modules, "twisted/plugins/udpdht_plugins.py"}
