"""One worker as its parent has it."""

import contextlib
import enum
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, succeed

from udpservices.runtime.workers.channel import MAX_DESCRIPTORS, Channel, Message, pair
from udpservices.runtime.workers.page import Page, Told
from udpservices.runtime.workers.worker import Socket


class State(enum.Enum):
    """How far a worker is."""

    IMPORTING = enum.auto()
    #: A spare.
    IDLE = enum.auto()
    #: It has its sockets, and will say when it reads them.
    STARTING = enum.auto()
    SERVING = enum.auto()
    ENDING = enum.auto()
    DEAD = enum.auto()


class Handed(NamedTuple):
    """A socket that a worker is to have."""

    task: str
    place: int
    sock: Any
    #: The number of the service.
    number: int


class Worker:
    """A process, a fresh program: never a fork of this one, whose reactor it would share (epoll(7))."""

    def __init__(
        self, reactor: Any, heard: Callable[["Worker", Message], None], died: Callable[["Worker"], None]
    ) -> None:
        """`heard` gets what the worker says, but for answers; `died` is told once when the process is gone."""
        self._reactor = reactor
        self._heard = heard
        self._died = died
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._answers: list[Deferred[Any]] = []
        self._ends: list[Deferred[None]] = []
        self._page = Page()
        self._poll = select.poll()
        self._born = reactor.seconds()
        self._why = ""
        self.state = State.IMPORTING
        self.pid = 0

    def start(self, path: list[str], reactor_name: str, tasks: list[bytes]) -> None:
        """Start the process and have it import what its tasks need. Raises OSError, and leaves nothing open then."""
        try:
            self._channel, theirs = pair()
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - our own
                    # -P: nothing is imported from the folder that it happens to be in, unless it is in the path.
                    [sys.executable, "-P", "-m", "udpservices.runtime.workers", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
                )
        except OSError:
            self.close()
            raise
        self.pid = self._process.pid
        self._channel.watch(self._reactor, self._receive, self._lost)
        self._channel.send({"op": "job", "path": path, "reactor": reactor_name, "tasks": tasks})

    # What it is told

    def tell(self, op: str, **values: Any) -> bool:
        """Send it a word."""
        return self._channel is not None and self._channel.send({"op": op, **values})

    def assign(self, tasks: list[bytes]) -> None:
        """Have a spare import what other tasks need."""
        self.state = State.IMPORTING
        self.tell("job", tasks=tasks)

    def _hand(self, handed: Sequence[Handed]) -> None:
        """One that cannot be given its sockets is of no use: so many descriptors may be on their way (unix(7))."""
        for start in range(0, len(handed), MAX_DESCRIPTORS):
            some = handed[start : start + MAX_DESCRIPTORS]
            sockets = [Socket(one.task, one.place, 0) for one in some]
            descriptors = [one.sock.fileno() for one in some]
            if self._channel is None or not self._channel.send({"op": "sockets", "sockets": sockets}, descriptors):
                self.kill("cannot be given its sockets")

    def serve(self, lane: int, handed: Sequence[Handed], *, quiet: bool, watched: bool) -> None:
        """Have a spare serve on these sockets; a quiet one logs nothing of that, and a watched one times answers."""
        self.state = State.STARTING
        self._watch(handed)
        self._hand(handed)
        if self._channel is not None:
            self._channel.send({"op": "go", "lane": lane, "quiet": quiet, "watched": watched}, [self._page.descriptor])

    def prepare(self, tasks: list[bytes], handed: Sequence[Handed]) -> "Deferred[str]":
        """Have it make ready for other tasks; fires with why it cannot, or with nothing."""
        self._hand(handed)
        return self._asked("prepare", tasks=tasks)

    def _watch(self, handed: Sequence[Handed]) -> None:
        self._poll = select.poll()
        for one in handed:
            self._poll.register(one.sock, select.POLLIN)

    def commit(
        self, drain: float, followed: Sequence[int], handed: Sequence[Handed], *, quiet: bool
    ) -> "Deferred[Any]":
        """Have it do that; fires when it is done. `handed` is all that it has then, for the services that stay."""
        self._watch(handed)
        return self._asked("commit", drain=drain, followed=followed, quiet=quiet)

    def _asked(self, op: str, **values: Any) -> "Deferred[Any]":
        if not self.tell(op, **values):
            return succeed("a worker does not listen")
        answer: Deferred[Any] = Deferred()
        self._answers.append(answer)
        return answer

    def stop(self) -> None:
        """Have it answer what has arrived, and end."""
        if self.state is not State.DEAD:
            self.state = State.ENDING
            self._why = self._why or "was told to stop"
            self.tell("stop")

    def kill(self, why: str) -> None:
        """End it now."""
        if self._process is not None and self.state is not State.DEAD:
            self._why = why
            self._process.send_signal(signal.SIGKILL)

    # What it says

    def _receive(self, message: Message, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
        op = message["op"]
        if op == "idle":
            self.state = State.IDLE
        elif op == "serving":
            self.state = State.SERVING
        elif op == "failed":
            self._why = message["why"]
        elif op in ("prepared", "committed"):
            if self._answers:
                self._answers.pop(0).callback(message.get("error", ""))
            return
        self._heard(self, message)

    def _lost(self) -> None:
        """Its end of the channel is closed: the process has ended, or will soon."""
        self._reap()

    def _reap(self) -> None:
        if self._process is None or self.state is State.DEAD:
            return
        if self._process.poll() is None:
            self._reactor.callLater(0.01, self._reap)
            return
        self.state = State.DEAD
        answers, self._answers = self._answers, []
        for answer in answers:
            answer.callback("a worker died meanwhile")
        self._died(self)

    def last_words(self) -> str:
        """Why it ended, as far as that is known."""
        if self._why:
            return self._why
        status = self._process.returncode if self._process is not None else None
        if status is None:
            return "is gone"
        return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"

    def whenDead(self) -> "Deferred[None]":
        """Fires when the process is gone."""
        if self.state is State.DEAD:
            return succeed(None)
        end: Deferred[None] = Deferred()
        self._ends.append(end)
        return end

    def tell_end(self) -> None:
        """Fire for those who wait for its end."""
        ends, self._ends = self._ends, []
        for end in ends:
            end.callback(None)

    # What can be seen of it

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return float(self._reactor.seconds() - self._born)

    @property
    def phase(self) -> str:
        """How far it is, as operators read it: ``starting``, ``serving``, ``ending`` or ``gone``."""
        phases = {State.SERVING: "serving", State.ENDING: "ending", State.DEAD: "gone"}
        return phases.get(self.state, "starting")

    @property
    def silence(self) -> float:
        """Seconds since it was last there."""
        return self._page.age or 0.0

    @property
    def is_stopped(self) -> bool:
        """Whether somebody stopped it (SIGSTOP; waitid(2), WSTOPPED)."""
        with contextlib.suppress(ChildProcessError):
            return os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
        return False

    @property
    def has_waiting(self) -> bool:
        """Whether there is something to read at one of its sockets, of which the parent has copies."""
        return any(events & select.POLLIN for _, events in self._poll.poll(0))

    @property
    def is_asked(self) -> bool:
        """Whether it owes an answer."""
        return bool(self._answers)

    @property
    def received(self) -> int:
        """Datagrams that it has read, as it says."""
        return sum(counters.received + counters.probes for counters in self._page.read().counts.values())

    def told(self) -> Told:
        """What it says of itself."""
        return self._page.read()

    def close(self) -> None:
        """Forget what is shared with it."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._page.close()
