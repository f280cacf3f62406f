"""Many ports in one process: one descriptor a socket, and no more work for each where there are more of them."""

import gc
import re
import resource
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Turning
from tests.machine import count_descriptors
from tests.runtime.running import on_reactor
from tests.services.commands import maker, parsed, refusal
from tests.support import BIN, ask, run, twistd, udp_socket
from udpservices import DatagramPort, DatagramService
from udpservices.endpoints import UDPEndpoint
from udpservices.net.routes import watch
from udpservices.runtime.member import SharedDatagramService
from udpservices.services.echo import Echo

COUNT = 50


class Look:
    """Counts the descriptors when a port is open."""

    def __init__(self, port: DatagramPort) -> None:
        self.count = 0

    def start(self) -> None:
        self.count = count_descriptors()

    def stop(self) -> None:
        pass


class TestDescriptors:
    @pytest.mark.parametrize(
        ("kind", "endpoint"),
        [
            (DatagramService, UDPEndpoint(0, ("127.0.0.1",))),
            (SharedDatagramService, UDPEndpoint(0, ("0.0.0.0",), shared=True)),
            (SharedDatagramService, UDPEndpoint(0, ("224.0.0.9",), shared=True)),
        ],
        ids=["responder", "member", "group"],
    )
    def test_one_a_socket(self, kind: type[DatagramService], endpoint: UDPEndpoint, epoll: Turning) -> None:
        """Also while the ports are made: what was bound is given up one by one."""
        looks: list[Look] = []

        def look(port: DatagramPort) -> Look:
            looks.append(Look(port))
            return looks[-1]

        with udp_socket("0.0.0.0") as any_socket:
            routes = watch(epoll.reactor, any_socket)  # a descriptor of the process
        service = kind("test", [endpoint] * COUNT, Echo, epoll.reactor, companions=[look])
        gc.collect()  # of other tests
        before = count_descriptors()
        service.bind()
        service.startService()
        assert {one.count for one in looks} == {before + COUNT}
        service.stopService()
        epoll.turn(3)
        assert count_descriptors() == before
        routes.release()


def limits(soft: int, hard: int) -> Callable[[], None]:
    """What a process does to itself before it becomes the command."""
    return partial(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))


def listens() -> list[str]:
    return [word for _ in range(COUNT) for word in ("--listen", "127.0.0.1:0")]


#: A service over TCP too, a client, and a member that pings; the others are plain.
TABLES = """
[first]
command = "udpecho"
listen = "127.0.0.1:0"
tcp = 0
[greet]
command = "udphello"
target = "127.0.0.1:9"
[group]
command = "udpmulticast"
port = 0
ping-interval = "1h"
"""


def plain_tables(count: int) -> str:
    table = '[t{}]\ncommand = "udpecho"\nlisten = "127.0.0.1:0"\nno-loop-guard = true\n'
    return "".join(table.format(number) for number in range(count))


class TestLimit:
    """It is raised before anything is opened, or the one line says that it cannot be."""

    def test_soft_limit_is_raised(self) -> None:
        """The usual one, 1,024, is no end."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        with twistd("udpecho", *listens(), preexec_fn=limits(40, hard)) as process:
            numbers: list[str] = []
            while len(numbers) < COUNT:
                numbers.append(process.wait_for(r"listening on \S+:(\d+)/udp$")[1])
                process.output = process.output.replace(f":{numbers[-1]}/udp", "", 1)
            assert {ask("127.0.0.1", int(number), b"hello") for number in numbers} == {b"hello"}
            process.stop()
            assert "Traceback" not in process.output

    def test_hard_limit(self) -> None:
        """Nothing was opened, and nothing said where it listens."""
        line = refusal("udpecho", *listens(), preexec_fn=limits(40, 60))
        assert line.startswith(f"udpecho: {COUNT} sockets need a limit of ")
        assert " open files (RLIMIT_NOFILE), and it is 60: raise it with ulimit -n " in line
        assert " or with LimitNOFILE=" in line

    def test_select(self) -> None:
        """It watches 1,024 whatever the limit is, and serves nobody at all where there is one more."""
        many = [word for _ in range(1000) for word in ("--listen", "127.0.0.1:0")]
        ended = run(BIN / "twistd", "--reactor=select", "-n", "--pidfile=", "udpecho", *many)
        assert ended.returncode == 1
        assert re.fullmatch(
            r"udpecho: 1000 sockets need 10\d\d descriptors, and select\(2\) watches 1024: choose another --reactor\n",
            ended.stderr,
        )

    def test_sockets_of_a_file_are_counted_together(self, tmp_path: Path) -> None:
        """Responders', TCP's, a client's, a member's and its pinger's; each table alone would have had room."""
        path = tmp_path / "services.toml"
        path.write_text(TABLES + plain_tables(COUNT))
        line = refusal("udpservices", "--config", path.name, cwd=tmp_path, preexec_fn=limits(40, 100))
        assert line.startswith(f"udpservices: services.toml: {COUNT + 5} sockets need a limit of ")

    @on_reactor
    async def test_what_is_open_is_not_counted_again(self) -> None:
        service = parsed_service("udpecho", *listens())
        assert service.count_sockets() == 0
        service.startService()
        assert service.count_sockets() == 0
        await service.stopService()
        assert service.count_sockets() == COUNT


def parsed_service(command: str, *words: str, reactor: Any = None) -> Any:
    return maker(command).makeService(parsed(command, *words), reactor)


def calls(do: Callable[[], Any]) -> int:
    """How many functions are called meanwhile, Python's own among them."""
    count = 0

    def called(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(called)
    try:
        do()
    finally:
        sys.setprofile(None)
    return count


class TestWork:
    """In function calls, which no other process makes slower: twice as many ports take twice as many."""

    @staticmethod
    def of_a_life(epoll: Turning, command: str, *words: str) -> int:
        def live() -> None:
            service = parsed_service(command, *words, reactor=epoll.reactor)
            service.privilegedStartService()
            service.startService()
            epoll.turn(2)
            stopped: list[object] = []
            service.stopService().addBoth(stopped.append)
            while not stopped:
                epoll.turn()

        return calls(live)

    def test_listens(self, epoll: Turning) -> None:
        def life(count: int) -> int:
            words = [word for _ in range(count) for word in ("--listen", "127.0.0.1:0")]
            return self.of_a_life(epoll, "udpecho", *words)

        life(1)
        assert life(4 * COUNT) < 2.1 * life(2 * COUNT)

    def test_tables(self, epoll: Turning, tmp_path: Path) -> None:
        path = tmp_path / "services.toml"

        def life(count: int) -> int:
            path.write_text(plain_tables(count))
            return self.of_a_life(epoll, "udpservices", "--config", str(path))

        life(1)
        assert life(2 * COUNT) < 2.1 * life(COUNT)
