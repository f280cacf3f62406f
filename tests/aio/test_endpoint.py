"""`create_datagram_endpoint` on asyncio's loop and on uvloop's: what it does differs in nothing from asyncio's own."""

import asyncio
import errno
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from tests.aio.endpoints import ON_LOOPS, Echo, Told, nowhere, until
from tests.support import ROOT, Process, descriptors, run, udp_socket
from udpservices.aio import create_datagram_endpoint
from udpservices.aio.transport import Transport
from udpservices.transport.engine.plain import PlainEngine

Run = Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]

ANY = ("127.0.0.1", 0)
HOSTS = ("127.0.0.1", "::1")


@pytest.fixture(params=ON_LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine function on a loop, with what opens endpoints there; nothing is open afterwards."""
    new_loop, make = ON_LOOPS[request.param]

    def run(main: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.get_loop()
            before = descriptors()
            runner.run(main(make))
            runner.run(asyncio.sleep(0))  # transports close in another turn
            assert descriptors() == before

    return run


@pytest.mark.parametrize("host", HOSTS)
def test_echo(on_loop: Run, host: str) -> None:
    """Addresses are asyncio's, of two or four parts, on both ends."""

    async def main(make: Any) -> None:
        server, echo = await make(Echo, local_addr=(host, 0))
        client, told = await make(Told, remote_addr=server.get_extra_info("sockname")[:2])
        for number in range(300):
            client.sendto(b"%d" % number)
            if number % 100 == 99:
                await until(partial(lambda count: len(told.received) == count, number + 1))
        sockname = server.get_extra_info("sockname")
        assert len(sockname) == (2 if host == HOSTS[0] else 4)
        assert told.received == [(b"%d" % number, sockname) for number in range(300)]
        assert echo.received == [(b"%d" % number, client.get_extra_info("sockname")) for number in range(300)]
        assert {type(addr) for _, addr in (*told.received, *echo.received)} == {tuple}  # compiled code may insist
        assert repr(echo.received[0][1]) == repr(client.get_extra_info("sockname"))
        assert client.get_extra_info("peername") == sockname
        assert server.get_extra_info("peername") is None
        assert server.get_extra_info("socket").getsockname() == sockname
        assert server.get_extra_info("nothing", 7) == 7
        client.close()
        server.close()
        await until(lambda: echo.lost == told.lost == [None])
        assert echo.told == ["made", "lost"]

    on_loop(main)


@pytest.mark.parametrize("host", HOSTS)
def test_to_whom(on_loop: Run, host: str) -> None:
    """An answer may be late, by an address that was kept, one that was made anew, or a name."""

    async def main(make: Any) -> None:
        server, echo = await make(Told, local_addr=(host, 0))
        client, told = await make(Told, remote_addr=server.get_extra_info("sockname")[:2])
        client.sendto(b"ask")
        ((_, addr),) = await until(lambda: echo.received)
        named = ("localhost", addr[1]) if host == HOSTS[0] else addr  # not every host has a name for ::1
        for number, target in enumerate((addr, (*addr,), addr[:2], named)):
            server.sendto(b"%d" % number, target)
        server.sendto(bytearray(b"4"), addr)
        server.sendto(memoryview(b"5"), addr)
        await until(lambda: len(told.received) == 6)
        assert sorted(data for data, _ in told.received) == [b"0", b"1", b"2", b"3", b"4", b"5"]
        with pytest.raises(ValueError, match="must be None or"):
            client.sendto(b"hello", ("192.0.2.1", 9))
        for wrong in ("text", None, 3):
            with pytest.raises(TypeError):
                client.sendto(wrong)
        client.close()
        server.close()

    on_loop(main)


def test_refusal(on_loop: Run) -> None:
    """A connected transport tells that nobody listens, and goes on."""

    async def main(make: Any) -> None:
        client, told = await make(Told, remote_addr=nowhere())
        client.sendto(b"anybody?")
        await until(lambda: told.errors)
        assert isinstance(told.errors[0], ConnectionRefusedError)
        assert not client.is_closing()
        client.close()

    on_loop(main)


def test_too_long(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        client, told = await make(Told, remote_addr=nowhere())
        client.sendto(bytes(65508))
        await until(lambda: told.errors)
        assert [error.errno for error in told.errors if isinstance(error, OSError)] == [errno.EMSGSIZE]
        client.close()

    on_loop(main)


def test_address_that_the_network_refuses(on_loop: Run) -> None:
    """In a batch too, whose answers leave together."""

    async def main(make: Any) -> None:
        server, told = await make(Told, local_addr=ANY)
        server.sendto(b"to everybody, without SO_BROADCAST", ("255.255.255.255", 9))
        await until(lambda: told.errors)
        assert isinstance(told.errors[0], PermissionError)
        server.close()

    on_loop(main)


def test_broadcast_without_connection(on_loop: Run) -> None:
    """With `allow_broadcast` the remote address is whom all is for, and anybody may answer."""

    async def main(make: Any) -> None:
        server, echo = await make(Echo, local_addr=ANY)
        client, told = await make(
            Told, local_addr=ANY, remote_addr=echo.transport.get_extra_info("sockname"), allow_broadcast=True
        )
        assert client.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
        assert client.get_extra_info("peername") is None
        client.sendto(b"hello")
        await until(lambda: told.received)
        with udp_socket() as stranger:
            stranger.sendto(b"me too", client.get_extra_info("sockname"))
            await until(lambda: len(told.received) == 2)
        with pytest.raises(ValueError, match="must be None or"):
            client.sendto(b"hello", ("192.0.2.1", 9))
        client.close()
        server.close()

    on_loop(main)


def test_taken_address(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        with udp_socket() as taken:
            with pytest.raises(OSError, match="in use") as raised:
                await make(Told, local_addr=taken.getsockname())
            assert raised.value.errno == errno.EADDRINUSE

    on_loop(main)


def test_shared_port(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        first, _ = await make(Told, local_addr=ANY, reuse_port=True)
        second, _ = await make(Told, local_addr=first.get_extra_info("sockname"), reuse_port=True)
        assert second.get_extra_info("sockname") == first.get_extra_info("sockname")
        first.close()
        second.close()

    on_loop(main)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, ValueError),
        ({"local_addr": ("nobody.invalid", 9)}, socket.gaierror),
        ({"local_addr": ("127.0.0.1", 0), "family": socket.AF_INET6}, OSError),
        ({"local_addr": ("127.0.0.1", 0), "remote_addr": ("::1", 9)}, ValueError),
        ({"local_addr": "127.0.0.1"}, TypeError),
        ({"local_addr": ("192.0.2.1", 0)}, OSError),
    ],
)
def test_wrong_arguments(on_loop: Run, arguments: Any, error: type[Exception]) -> None:
    async def main(make: Any) -> None:
        with pytest.raises(error):
            await make(Told, **arguments)

    on_loop(main)


def test_names(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        server, _ = await make(Echo, local_addr=("localhost", 0), family=socket.AF_INET)
        client, told = await make(
            Told, remote_addr=("localhost", server.get_extra_info("sockname")[1]), family=socket.AF_INET
        )
        client.sendto(b"hello")
        await until(lambda: told.received)
        client.close()
        server.close()

    on_loop(main)


def test_socket_of_the_caller(on_loop: Run) -> None:
    """Its options stay as they are; nothing else may be said besides."""

    async def main(make: Any) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(ANY)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(ValueError, match="sock"):
            await make(Told, sock=sock, local_addr=ANY)
        transport, told = await make(Told, sock=sock)
        assert [
            sock.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_BROADCAST, socket.SO_REUSEADDR)
        ] == [1, 1]
        with udp_socket() as client:
            client.sendto(b"hello", sock.getsockname())
            await until(lambda: told.received)
        transport.close()
        await until(lambda: told.lost)
        assert sock.fileno() == -1

    on_loop(main)


def test_socket_that_is_not_bound(on_loop: Run) -> None:
    """It is after the first send at the latest."""

    async def main(make: Any) -> None:
        server, _ = await make(Echo, local_addr=ANY)
        client, told = await make(Told, family=socket.AF_INET)
        client.sendto(b"hello", server.get_extra_info("sockname"))
        await until(lambda: told.received)
        client.close()
        server.close()

    on_loop(main)


def test_stream_socket(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="socket"):
            await make(Told, sock=sock)

    on_loop(main)


def test_local_sockets(on_loop: Run, tmp_path: Any) -> None:
    """Those of the file system are left to the loop."""

    async def main(make: Any) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(tmp_path / "s"))
        server, told = await make(Told, sock=sock)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", str(tmp_path / "s"))
            await until(lambda: told.received)
        server.close()
        await until(lambda: told.lost)

    on_loop(main)


def test_exceptions(on_loop: Run) -> None:
    """The loop's handler is told, and the transport goes on."""

    class Faulty(Told):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            raise LookupError("made")

        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise LookupError("received")

        def connection_lost(self, exc: Any) -> None:
            super().connection_lost(exc)
            raise LookupError("lost")

    async def main(make: Any) -> None:
        found: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: found.append(context))
        transport, faulty = await make(Faulty, local_addr=ANY)
        with udp_socket() as client:
            for number in range(20):
                client.sendto(b"%d" % number, transport.get_extra_info("sockname"))
        await until(lambda: len(faulty.received) == 20)
        transport.close()
        await until(lambda: faulty.lost)
        await asyncio.sleep(0)
        assert [str(context["exception"]) for context in found] == ["made", *["received"] * 20, "lost"]

    on_loop(main)


def test_exit(on_loop: Run) -> None:
    """A protocol may end the program."""

    class Ending(Told):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.close()
            raise SystemExit(3)

    async def main(make: Any) -> None:
        transport, _ = await make(Ending, local_addr=ANY)
        with udp_socket() as client:
            client.sendto(b"end", transport.get_extra_info("sockname"))
        await asyncio.sleep(20)

    with pytest.raises(SystemExit) as raised:
        on_loop(main)
    assert raised.value.code == 3


def test_running_loop_and_tasks(on_loop: Run) -> None:
    """A protocol finds the loop wherever it is called."""
    loops = []

    class Tasks(Echo):
        def __init__(self) -> None:
            super().__init__()
            loops.append(asyncio.get_running_loop())

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            loops.append(asyncio.get_running_loop())

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.task = asyncio.create_task(self.answer(data, addr))

        async def answer(self, data: bytes, addr: Any) -> None:
            await asyncio.sleep(0)
            self.transport.sendto(data, addr)

        def connection_lost(self, exc: Any) -> None:
            super().connection_lost(exc)
            loops.append(asyncio.get_running_loop())

    async def main(make: Any) -> None:
        server, tasks = await make(Tasks, local_addr=ANY)
        client, told = await make(Told, remote_addr=server.get_extra_info("sockname")[:2])
        client.sendto(b"hello")
        await until(lambda: told.received)
        server.close()
        client.close()
        await until(lambda: tasks.lost)
        assert set(loops) == {asyncio.get_running_loop()}
        assert len(loops) == 3

    on_loop(main)


def test_another_protocol(on_loop: Run) -> None:
    async def main(make: Any) -> None:
        server, first = await make(Told, local_addr=ANY)
        second = Told()
        assert server.get_protocol() is first
        server.set_protocol(second)
        assert server.get_protocol() is second
        with udp_socket() as client:
            client.sendto(b"hello", server.get_extra_info("sockname"))
            await until(lambda: second.received)
        assert not first.received
        server.abort()
        await until(lambda: second.lost)

    on_loop(main)


@pytest.mark.parametrize("how", ["close", "abort"])
def test_end(on_loop: Run, how: str) -> None:
    """The protocol is told once, in another turn; what arrives meanwhile is not delivered."""

    async def main(make: Any) -> None:
        server, told = await make(Told, local_addr=ANY)
        with udp_socket() as client:
            client.sendto(b"hello", server.get_extra_info("sockname"))
            getattr(server, how)()
            assert server.is_closing()
            assert not told.lost
            server.close()
            server.abort()
            await until(lambda: told.lost)
        assert told.told == ["made", "lost"]
        assert not told.received

    on_loop(main)


def test_close_in_a_handler(on_loop: Run) -> None:
    """What is answered before it has left."""

    class Once(Echo):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async def main(make: Any) -> None:
        server, once = await make(Once, local_addr=ANY)
        with udp_socket() as client:
            for number in range(40):
                client.sendto(b"%d" % number, server.get_extra_info("sockname"))
            await until(lambda: once.lost)
            assert client.recv(9) == b"0"
        assert len(once.received) == 1

    on_loop(main)


def test_timers_and_threads_beside_a_load(on_loop: Run) -> None:
    """Whoever the loop serves besides has his turn while a client asks and asks."""

    async def main(make: Any) -> None:
        loop = asyncio.get_running_loop()
        server, _ = await make(Echo, local_addr=ANY)
        client, told = await make(Echo, remote_addr=server.get_extra_info("sockname")[:2])
        client.sendto(b"to and fro")
        called: list[str] = []
        loop.call_later(0.01, called.append, "timer")
        loop.run_in_executor(None, loop.call_soon_threadsafe, called.append, "thread")
        await until(lambda: len(called) == 2)
        assert len(told.received) > 1
        client.close()
        server.close()
        await loop.shutdown_default_executor()

    on_loop(main)


def test_client_that_asks_from_another_process(on_loop: Run) -> None:
    """One at a time, between which the loop sleeps: nobody else waits for his turn meanwhile."""
    ask = (
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(9); "
        "s.connect(('127.0.0.1', int(sys.argv[1])))\n"
        "for number in range(2000): s.send(b'%d' % number); assert s.recv(9) == b'%d' % number"
    )

    async def main(make: Any) -> None:
        server, echo = await make(Echo, local_addr=ANY)
        done = await asyncio.to_thread(run, sys.executable, "-c", ask, str(server.get_extra_info("sockname")[1]))
        assert (done.returncode, done.stderr) == (0, "")
        assert len(echo.received) == 2000
        server.close()
        await asyncio.get_running_loop().shutdown_default_executor()

    on_loop(main)


@pytest.mark.parametrize("loop", ["ours on asyncio", "ours on uvloop"])
@pytest.mark.parametrize("many", [1, 40])
def test_no_room(loop: str, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel has no room for waits, in order; the protocol pauses, and `close` waits for it."""
    new_loop, make = ON_LOOPS[loop]
    full = [True]
    attempt = PlainEngine.attempt

    def refuse(self: Any, datagram: bytes, peer: Any) -> OSError | None:
        return BlockingIOError(errno.EAGAIN, "full") if full[0] else attempt(self, datagram, peer)

    async def main() -> None:
        monkeypatch.setattr(PlainEngine, "attempt", refuse)
        transport: Any
        transport, told = await make(Told, local_addr=ANY)
        assert isinstance(transport, Transport)
        transport.set_write_buffer_limits(high=many, low=0)
        with udp_socket() as peer:
            for number in range(many + 1):
                transport.sendto(b"%d" % (number % 10), peer.getsockname())
            assert transport.get_write_buffer_size() == many + 1
            assert told.told == ["made", "pause"]
            transport.close()
            await asyncio.sleep(0.001)
            assert not told.lost
            full[0] = False
            await until(lambda: told.lost)
            assert told.told == ["made", "pause", "resume", "lost"]
            assert [peer.recv(9) for _ in range(many + 1)] == [b"%d" % (number % 10) for number in range(many + 1)]
        assert transport.get_write_buffer_size() == 0

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def test_write_buffer_limits() -> None:
    async def main() -> None:
        transport: Any
        transport, _ = await create_datagram_endpoint(Told, local_addr=ANY)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="must be >="):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.close()

    asyncio.run(main())


def test_no_reactor_is_installed() -> None:
    """A program of asyncio's has none, and may still choose one."""
    program = (
        "import asyncio, sys\n"
        "from udpservices.aio import create_datagram_endpoint\n"
        "async def main():\n"
        "    transport, _ = await create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=('127.0.0.1', 0))\n"
        "    transport.close()\n"
        "asyncio.run(main())\n"
        "print('twisted.internet.reactor' in sys.modules)\n"
    )
    done = run(sys.executable, "-X", "dev", "-c", program)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_protocol_with_a_method_of_every_name(on_loop: Run) -> None:
    """As those of calls over the network have them: none of these is taken for one of ours."""

    class Calls(Echo):
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments: pytest.fail(f"{name} is called")

    async def main(make: Any) -> None:
        server, calls = await make(Calls, local_addr=ANY)
        client, told = await make(Told, remote_addr=server.get_extra_info("sockname"))
        client.sendto(b"hello")
        await until(lambda: told.received)
        server.sendto(b"to everybody", ("255.255.255.255", 9))
        await until(lambda: calls.errors)
        client.close()
        server.close()

    on_loop(main)


@pytest.mark.parametrize("later", [True, False])
def test_answer_from_where_it_was_asked(later: bool) -> None:
    """On a wildcard, where asyncio's own leaves it to the kernel; late, and by an address that was copied."""

    class Late(Told):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.received.append((data, addr))
            if later:
                asyncio.get_running_loop().call_later(0.001, self.transport.sendto, data, (*addr,))
            else:
                self.transport.sendto(data, (*addr,))

    async def main() -> None:
        server, _ = await create_datagram_endpoint(Late, local_addr=("0.0.0.0", 0))
        number = server.get_extra_info("sockname")[1]
        for _ in range(3):
            for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
                client, told = await create_datagram_endpoint(Told, remote_addr=(host, number))
                client.sendto(host.encode())
                await until(partial(bool, told.received))
                assert told.received == [(host.encode(), (host, number))]
                client.close()
        server.close()

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_between_datagrams(number: int, tmp_path: Any) -> None:
    """A port that waits in the loop's place keeps nobody from ending the program."""
    (tmp_path / "program.py").write_text(
        "import asyncio, signal\n"
        "from tests.aio.endpoints import Echo\n"
        "from udpservices.aio import create_datagram_endpoint\n"
        "async def main():\n"
        "    transport, _ = await create_datagram_endpoint(Echo, local_addr=('127.0.0.1', 0))\n"
        "    ended = asyncio.Event()\n"
        "    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)\n"
        "    print('listening on', transport.get_extra_info('sockname')[1], flush=True)\n"
        "    await ended.wait()\n"
        "    print('told', flush=True)\n"
        "asyncio.run(main())\n"
    )
    with Process(sys.executable, tmp_path / "program.py", env={"PYTHONPATH": str(ROOT)}) as process:
        port = int(process.wait_for(r"listening on (\d+)")[1])
        with udp_socket() as client:
            client.connect(("127.0.0.1", port))
            for _ in range(40):
                client.send(b"hello")
                assert client.recv(9) == b"hello"
        process.stop(number)
        process.wait_for("KeyboardInterrupt" if number == signal.SIGINT else "told")
