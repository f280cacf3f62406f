"""Services on sockets: bound, started, stopped, and started again."""

import socket
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.application.service import MultiService
from twisted.internet import reactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThread

from tests.machine import free_port, leaking_nothing
from tests.runtime.running import answer, is_taken, lines, on_reactor, running
from tests.support import ask, logged, twistd, udp_socket
from udpservices import DatagramPort, DatagramService
from udpservices.endpoints import parse
from udpservices.services.echo import Echo


class Unstartable(DatagramProtocol):
    """Cannot be started, on IPv6."""

    def startProtocol(self) -> None:
        if ":" in cast("Any", self.transport).getHost().host:
            raise ZeroDivisionError("started")


class TestService:
    @pytest.fixture
    def service(self) -> DatagramService:
        """An echo on both families."""
        return DatagramService("echo", [parse("0")], Echo, reactor)

    @on_reactor
    async def test_serves_both_families(self, service: DatagramService) -> None:
        async with running(service) as (number, same):
            assert number == same
            assert await answer("127.0.0.1", number) == b"hello"
            assert await answer("::1", number) == b"hello"

    @on_reactor
    async def test_bind_binds_once(self, service: DatagramService) -> None:
        """The maker, `privilegedStartService` and `startService` all call it."""
        with leaking_nothing():
            service.bind()
            with leaking_nothing():
                service.bind()
                service.privilegedStartService()
            service.startService()
            number = service.ports[0].getHost().port
            service.bind()
            assert len(service.ports) == 2
            assert await answer("127.0.0.1", number) == b"hello"
            await service.stopService()

    @on_reactor
    async def test_starts_without_privileges(self, service: DatagramService) -> None:
        """As under twist, which never calls `privilegedStartService`."""
        service.startService()
        assert await answer("::1", service.ports[1].getHost().port) == b"hello"
        await service.stopService()

    @on_reactor
    async def test_stopped_when_all_is_closed(self, service: DatagramService) -> None:
        """Whoever waits for it can bind the port number at once."""
        with leaking_nothing():
            async with running(service) as (number, _):
                assert is_taken(number)
            assert service.ports == []
            assert not service.running
            for host in ("127.0.0.1", "::1"):
                udp_socket(host, number).close()

    @on_reactor
    async def test_stops_and_starts_again(self) -> None:
        """With new sockets and new protocols, on the same number where that was given."""
        number = free_port()
        made: list[Echo] = []

        def make() -> Echo:
            made.append(Echo())
            return made[-1]

        service = DatagramService("echo", [parse(f"127.0.0.1:{number}")], make, reactor)
        for count in (1, 2, 3):
            async with running(service):
                assert await answer("127.0.0.1", number) == b"hello"
                assert len(made) == count

    @on_reactor
    async def test_stops_and_starts_again_on_a_descriptor(self) -> None:
        """What was inherited stays open, and keeps what arrives meanwhile."""
        with udp_socket() as inherited, udp_socket() as client:
            client.connect(inherited.getsockname())
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            for _ in range(3):
                client.send(b"early")
                async with running(service) as (number,):
                    assert number == inherited.getsockname()[1]
                    assert await deferToThread(client.recv, 100) == b"early"
                    assert await answer("127.0.0.1", number) == b"hello"

    @on_reactor
    async def test_connected_descriptor(self) -> None:
        """Its peer is served, and nobody else."""
        with udp_socket() as inherited, udp_socket() as peer, udp_socket() as stranger:
            inherited.connect(peer.getsockname())
            service = DatagramService("echo", [parse(f"fd:{inherited.fileno()}")], Echo, reactor)
            async with running(service):
                stranger.sendto(b"hear me", inherited.getsockname())
                peer.sendto(b"hello", inherited.getsockname())
                assert await deferToThread(peer.recv, 100) == b"hello"
                stranger.setblocking(False)
                with pytest.raises(BlockingIOError):
                    stranger.recv(100)

    @on_reactor
    async def test_stopped_before_it_starts(self, service: DatagramService) -> None:
        """When another service of the process could not be made; nothing is said, for nothing was served."""
        with leaking_nothing(), logged() as events:
            service.bind()
            await service.stopService()
        assert lines(events, "echo") == []

    @on_reactor
    async def test_stopped_twice(self, service: DatagramService) -> None:
        with logged() as events:
            async with running(service):
                pass
            await service.stopService()
        assert len([line for line in lines(events, "echo") if "stopped" in line]) == 1

    def test_endpoint_that_cannot_be_opened(self) -> None:
        """All that were opened before are closed."""
        with udp_socket() as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
            service = DatagramService("echo", [parse("0"), parse(where)], Echo, reactor)
            for start in (service.bind, service.privilegedStartService, service.startService):
                with leaking_nothing(), pytest.raises(ValueError, match="already in use"):
                    start()
        assert service.ports == []

    @on_reactor
    async def test_protocol_that_cannot_be_started(self) -> None:
        """What runs already is still stopped."""
        with leaking_nothing():
            service = DatagramService("test", [parse("0")], Unstartable, reactor)
            with pytest.raises(ZeroDivisionError):
                service.startService()
            await service.stopService()

    @on_reactor
    async def test_policy_that_cannot_be_made(self) -> None:
        """It may be a guard: nothing passes without it. The port is stopped with the service."""

        def fail(port: DatagramPort) -> None:
            raise ZeroDivisionError

        with leaking_nothing():
            service = DatagramService("test", [parse("127.0.0.1:0")], Echo, reactor, policies=[fail])
            with pytest.raises(ZeroDivisionError):
                service.startService()
            (port,) = service.ports
            with udp_socket() as client:
                client.sendto(b"x", ("127.0.0.1", port.getHost().port))
                async with running(DatagramService("echo", [parse("127.0.0.1:0")], Echo, reactor)) as (number,):
                    assert await answer("127.0.0.1", number) == b"hello"
            assert port.counters.received == 0
            await service.stopService()

    @on_reactor
    async def test_among_other_services(self) -> None:
        """A MultiService starts and stops it, whether it was added before or after."""
        parent = MultiService()
        services = [DatagramService(label, [parse("127.0.0.1:0")], Echo, reactor) for label in ("one", "two")]
        with leaking_nothing():
            services[0].setServiceParent(parent)
            parent.privilegedStartService()
            parent.startService()
            services[1].setServiceParent(parent)
            for service in services:
                assert await answer("127.0.0.1", service.ports[0].getHost().port) == b"hello"
            await services[1].disownServiceParent()
            assert services[1].ports == []
            await parent.stopService()
            assert services[0].ports == []

    @on_reactor
    async def test_settings_hold_for_every_endpoint(self) -> None:
        service = DatagramService(
            "echo", [parse("0"), parse("udp:0:rcvbuf=32k")], Echo, reactor, reuse_port=True, receive_buffer=65536
        )
        async with running(service):
            sockets = [port.socket for port in service.ports]
            assert [sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) for sock in sockets] == [1] * 4
            sizes = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2 for sock in sockets]
            assert sizes == [65536, 65536, 32768, 32768]


TAC = """
from twisted.application.service import Application
from twisted.internet import reactor

from udpservices import DatagramService
from udpservices.endpoints import parse
from udpservices.services.echo import Echo

application = Application("echo")
DatagramService("echo of a file", [parse("127.0.0.1:0")], Echo, reactor).setServiceParent(application)
"""


def test_from_a_tac_file(tmp_path: Path) -> None:
    """There `bind` is called by `privilegedStartService`, if the file itself does not call it."""
    (tmp_path / "echo.tac").write_text(TAC)
    with twistd("-y", tmp_path / "echo.tac", cwd=tmp_path) as process:
        number = int(process.wait_for(r"echo of a file listening on 127\.0\.0\.1:(\d+)/udp")[1])
        assert ask("127.0.0.1", number, b"hello") == b"hello"
        process.stop()
        process.wait_for("echo of a file stopped: 1 received, 1 answered, 0 dropped")
        assert "Traceback" not in process.output
