"""The names that other people's code imports, and what they do in a program of theirs."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.protocol import DatagramProtocol

import udpservices
from tests.runtime.running import SERVE, answer, on_reactor, running, service_of, until
from tests.support import ROOT, udp_socket
from udpservices import (
    AccessList,
    Batch,
    DatagramService,
    EndpointError,
    GuardRules,
    Impairment,
    LoopBreaking,
    LoopRules,
    Policy,
    RateLimit,
    UDPEndpoint,
    parse_endpoint,
    standard_policies,
)

#: The modules whose names are for other people.
PUBLIC = {"udpservices", "udpservices.options", "udpservices.net", "udpservices.testing"}

HERE = "127.0.0.1:0"


class Answering(DatagramProtocol):
    """Sends back what it gets."""

    noisy = False
    transport: IUDPTransport

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.transport.write(datagram, addr)


class Reflector(Answering):
    reflector = True


class Reticent(Answering):
    default_rate = 5


class TestNames:
    def test_each_can_be_imported(self) -> None:
        for name in udpservices.__all__:
            assert getattr(udpservices, name).__name__ in (name, "parse"), name

    @pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.name)
    def test_examples_import_public_ones_alone(self, path: Path) -> None:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not [one.name for one in node.names if one.name.split(".")[0] == "udpservices"]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "udpservices":
                assert node.module in PUBLIC
                names = {one.name for one in node.names}
                assert names <= set(importlib.import_module(node.module).__all__)


class TestEndpoints:
    @pytest.mark.parametrize(
        "given",
        [HERE, parse_endpoint(HERE), UDPEndpoint(0, ("127.0.0.1",)), [HERE], (UDPEndpoint(0, ("127.0.0.1",)),)],
        ids=["text", "parsed", "endpoint", "texts", "endpoints"],
    )
    @on_reactor
    async def test_are_given_as_people_like(self, given: Any) -> None:
        async with running(DatagramService("test", given, Answering, reactor)) as (number,):
            assert await answer("127.0.0.1", number) == b"hello"

    @on_reactor
    async def test_several(self) -> None:
        service = DatagramService("test", [HERE, parse_endpoint("[::1]:0")], Answering, reactor)
        async with running(service) as (first, second):
            assert await answer("127.0.0.1", first) == await answer("::1", second) == b"hello"

    def test_mistake_is_told_at_once(self) -> None:
        with pytest.raises(EndpointError, match="only IPv6 addresses stand in brackets"):
            DatagramService("test", "[127.0.0.1]:9999", Answering, reactor)


def kinds(service: DatagramService) -> list[type[Policy]]:
    (port,) = service.ports
    return [type(policy) for policy in port.policies]


class TestPolicies:
    @pytest.mark.parametrize("protocol", [Answering, Reflector, Reticent])
    @on_reactor
    async def test_are_those_of_udpserve(self, protocol: type[DatagramProtocol]) -> None:
        """On every address: loopback alone has no limit and no loop breaker."""
        name = f"{__name__}.{protocol.__name__}"
        command = service_of("--listen", "0.0.0.0:0", "--protocol", name, of=SERVE)
        service = DatagramService("test", "0.0.0.0:0", protocol, reactor)
        async with running(command), running(service):
            assert kinds(service) == kinds(command) != []

    @on_reactor
    async def test_reflector_answers_no_other(self) -> None:
        """What comes from a port of this process is refused: a service on each side would never end."""
        service = DatagramService("test", [HERE, HERE], Reflector, reactor)
        async with running(service) as (first, _):
            service.ports[1].write(b"hello", ("127.0.0.1", first))
            await answer("127.0.0.1", first)
            assert service.ports[0].counters.refused["own-port"] == 1, service.ports[0].counters.refused

    @on_reactor
    async def test_none_where_none_are_wanted(self) -> None:
        service = DatagramService("test", HERE, Reflector, reactor, policies=[])
        async with running(service):
            assert kinds(service) == []

    @on_reactor
    async def test_own_ones(self) -> None:
        policies = standard_policies(
            GuardRules(LoopRules(own_ports=False), AccessList(deny=["127.0.0.2", "2001:db8::/32"])),
            RateLimit(rate=1, burst=2),
            LoopBreaking(wanted=False),
        )
        service = DatagramService("test", HERE, Reflector, reactor, policies=policies)
        async with running(service) as (number,):
            for _ in range(2):
                assert await answer("127.0.0.1", number) == b"hello"
            with udp_socket("127.0.0.2") as denied, udp_socket() as third:
                denied.sendto(b"x", ("127.0.0.1", number))
                third.sendto(b"x", ("127.0.0.1", number))
                counters = service.ports[0].counters
                await until(lambda: {"denied", "rate"} <= counters.refused.keys())

    @on_reactor
    async def test_policy_of_the_programs_own(self) -> None:
        class NoNumbers(Policy):
            """Drops what is a number."""

            def __call__(self, batch: Batch) -> None:
                batch.keep([index for index, payload in enumerate(batch.payloads) if not payload.isdigit()])

        service = DatagramService(
            "test", HERE, Answering, reactor, policies=[*standard_policies(), lambda port: NoNumbers()]
        )
        async with running(service) as (number,):
            with udp_socket() as sock:
                sock.sendto(b"1", ("127.0.0.1", number))
                sock.sendto(b"one", ("127.0.0.1", number))
                await until(lambda: service.total().received == 2)
                assert sock.recv(10) == b"one"

    @on_reactor
    async def test_lossy_network(self) -> None:
        policies = standard_policies(impairment=Impairment(duplicate=1.0), log=True)
        service = DatagramService("test", HERE, Answering, reactor, policies=policies)
        async with running(service) as (number,):
            with udp_socket() as sock:
                sock.sendto(b"twice", ("127.0.0.1", number))
                await until(lambda: service.total().sent == 2)  # though nothing comes after it

    def test_networks_are_texts(self) -> None:
        access = AccessList(allow=["192.0.2.0/24"])
        assert access.refuses(bytes([192, 0, 2, 1])) is None
        assert access.refuses(bytes([192, 0, 3, 1])) is not None
        with pytest.raises(ValueError, match=r"^192\.0\.2\.1/24: has bits below its prefix: write 192\.0\.2\.0/24$"):
            AccessList(deny=["192.0.2.1/24"])
