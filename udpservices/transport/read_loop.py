"""When a port reads: one datagram a call while little comes, many a call when much does, and never for too long."""

import enum
from collections.abc import Callable
from time import monotonic

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from udpservices.net.sockets import CLOSED
from udpservices.transport.counters import Counters
from udpservices.transport.delivery import Delivery
from udpservices.transport.engine.base import Received
from udpservices.transport.engine.libc import REFUSED_CALL, SLOTS
from udpservices.transport.engine.mmsg import MmsgEngine
from udpservices.transport.engine.peers import NOBODY
from udpservices.transport.engine.plain import PlainEngine
from udpservices.transport.fault_reporter import FaultReporter
from udpservices.transport.lingering import Lingering
from udpservices.transport.load import Load
from udpservices.transport.network_errors import NetworkErrors
from udpservices.transport.sampler import Sampler
from udpservices.transport.writer import Writer

#: Turns in which so many datagrams were read, after which a port is busy; and how few in a turn are the end of that.
BUSY_TURNS = 3
BUSY = SLOTS // 2
QUIET = SLOTS // 4

#: Turns in a row that brought nothing or failed, though the poller called, after which a port pauses; for so long.
FRUITLESS = 64
PAUSE = 0.05


class Reading(enum.Enum):
    """Whether and how a port reads."""

    STOPPED = enum.auto()
    #: When the poller says that there is something.
    POLLED = enum.auto()
    #: In every turn of the reactor.
    SPINNING = enum.auto()
    #: Not now, but soon: reading fails.
    PAUSED = enum.auto()


class ReadLoop:
    """Reads what arrives at one port, and hands it on."""

    #: Datagrams read in one turn of the reactor at most, so that timers and other ports stay on time under any flood.
    #: More than the first `SLOTS` of them are read only as far as a turn takes no more than so many seconds.
    budget = 256
    patience = 0.001

    def __init__(
        self,
        plain: PlainEngine,
        many: MmsgEngine,
        delivery: Delivery,
        writer: Writer,
        errors: NetworkErrors,
        faults: FaultReporter,
        counters: Counters,
        sampler: Sampler,
        clock: IReactorTime,
        watch: Callable[[bool], None],
        writing: Callable[[], bool],
        lost: Callable[[OSError], None],
        may_coalesce: bool,
        lingering: Lingering | None = None,
    ) -> None:
        """`watch` has the poller call `turn` when there is something to read, or call no more.

        `writing` says whether something waits for room, of which the poller tells; `lost` is told that the descriptor
        is gone. `may_coalesce`: whether the kernel may hand over flows in one piece, which stays with the socket.
        `lingering` waits in the poller's place, where that can be.
        """
        self._plain = plain
        self._many = many
        self._delivery = delivery
        self._writer = writer
        self._errors = errors
        self._faults = faults
        self._counters = counters
        #: Times an answer now and then.
        self.sampler = sampler
        self._clock = clock
        self._watch = watch
        self._writing = writing
        self._lost = lost
        self.may_coalesce = may_coalesce
        self._lingering = lingering
        self.state = Reading.STOPPED
        self._call: IDelayedCall | None = None
        self.load = Load()
        self._busy_turns = 0
        self._fruitless = 0

    # Starting and stopping

    def start(self) -> None:
        """Read what arrives."""
        self._cancel()
        self.state = Reading.POLLED
        self._plain.paused = False
        self._watch(True)
        if self._delivery.rest:
            self._spin()

    def stop(self) -> None:
        """Read no more."""
        self._cancel()
        self.state = Reading.STOPPED
        self._plain.paused = True
        self._watch(False)

    def poll(self) -> None:
        """The poller is to watch from now on, whoever reads: it tells those who write of errors, too."""
        if self.state is Reading.SPINNING:
            self._cancel()
            self.state = Reading.POLLED
            self._watch(True)
            if self._delivery.rest:
                self._spin()

    @property
    def backlog(self) -> int:
        """How many datagrams were read and wait for the next turn."""
        return self._delivery.rest

    @property
    def is_reading(self) -> bool:
        """Whether the port reads, or will soon."""
        return self.state is not Reading.STOPPED

    def _cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _spin(self) -> None:
        """Read in the next turn of the reactor, whatever the poller knows, but after the timers that are due by now."""
        if self._call is not None and self._call.active():
            self._call.reset(0)
        else:
            self._call = self._clock.callLater(0, self.turn)

    def _pause(self) -> None:
        """Reading fails again and again, as in a sandbox: burn no core meanwhile."""
        self._cancel()
        self._fruitless = 0
        self.state = Reading.PAUSED
        self._watch(False)
        self._call = self._clock.callLater(PAUSE, self.start)

    # A turn

    def turn(self) -> None:
        """Read what has arrived, up to the budget, and hand it on."""
        if self.state is Reading.STOPPED:
            return
        try:
            if self.load.is_light and self.state is Reading.POLLED and not self._delivery.backlog:
                self._read_one_by_one()
            else:
                self._read_together()
        except BaseException:
            self._faults.port_failed("reading")
            self._missed()

    def _missed(self, turns: int = 1) -> None:
        """The poller called, and nothing could be read."""
        self._fruitless += turns
        if self._fruitless >= FRUITLESS and self.is_reading:
            self._pause()

    def _failed(self, error: OSError) -> None:
        """The network has failed, or the system refuses, or the socket is gone, which is the end of reading."""
        if error.errno in CLOSED:
            self._lost(error)
            return
        self._missed(FRUITLESS // 16 if error.errno in REFUSED_CALL else 1)
        self._errors.heard(error)

    def _read_one_by_one(self) -> None:
        """A client that waits for an answer has it while the next datagram is read."""
        writer, load = self._writer, self.load
        outer = writer.current
        if writer.is_gathering:
            writer.flush()
        arrivals = self._plain.arrivals(load.singles, self._go_on)
        try:
            read = self._delivery.deliver_arrivals(
                self.sampler.first_of(arrivals) if self.sampler.is_armed else arrivals
            )
        except OSError as error:
            self._failed(error)
            return
        finally:
            writer.go_back_to(outer)
        if read:
            self._fruitless = 0
        else:
            self._settle(read)

    def _go_on(self, count: int) -> int:
        """Where so many came, how many more to read without a turn of the loop: none where somebody waits for one."""
        load = self.load
        load.brought(count)
        lingering = self._lingering
        if lingering is None or not load.is_light or self.state is not Reading.POLLED or self._delivery.backlog:
            return 0
        return load.singles if lingering.another() else 0

    def _settle(self, read: int) -> None:
        """A turn of the poller's brought so many; where none, an error may have been what it called for."""
        if read:
            self._fruitless = 0
        elif not self._errors.look():
            self._missed()

    def _read_together(self) -> None:
        """Read many at a time, deliver them, and go on as long as more may be there and the turn has time."""
        if self.state is Reading.SPINNING:
            self._spin()  # a handler that turns the reactor hears on
        delivery = self._delivery
        began, read, limit = monotonic(), 0, SLOTS
        delivery.collect()
        if delivery.rest:
            read = delivery.go_on(limit)
            limit -= read
        while (limit > 0 or self._plain.failed) and self.is_reading and not delivery.rest:
            engine = self._many if self._many.can_receive else self._plain
            try:
                received = engine.receive(limit)
            except OSError as error:
                self._failed(error)
                limit -= 1
                continue
            if received is None:
                break
            count = len(received)
            if not read:
                self.load.began_with(count, received.pieces)
            read += count
            self._counters.received += count
            self._counters.received_bytes += received.size
            arrival = self._arrival(received) if self.sampler.is_armed else 0
            delivery.deliver(received, limit)
            if arrival and not delivery.rest:
                self.sampler.done(arrival)
            if not delivery.splits_flows:
                self._many.flow = 1
            limit = self._more(read, monotonic() - began) if engine.filled else 0
        if read or self.state is Reading.POLLED:
            self._settle(read)
        self._poll_or_spin(read)

    def _arrival(self, received: Received) -> int:
        """When the last datagram arrived of those that were read just now."""
        return self.sampler.arrival(NOBODY if received.in_place else received.peers[-1])

    def _more(self, read: int, spent: float) -> int:
        """How many datagrams the turn is still good for, after so many that took so many seconds: a batch, or none."""
        more = int(min(self.budget - read, read * (self.patience / max(spent, 1e-9) - 1)))
        return more if more >= max(SLOTS, self._many.flow) else 0

    def _poll_or_spin(self, read: int) -> None:
        """Let a busy port read in every turn of the reactor, and the poller watch over the others.

        Each send wakes the queue of a socket that epoll watches, which costs 4 to 6 % of an echo.
        """
        if self.state is Reading.POLLED:
            busy = read >= BUSY and not self._writing()
            self._busy_turns = self._busy_turns + 1 if busy else 0
            if self._busy_turns >= BUSY_TURNS:
                self.state = Reading.SPINNING
                self._watch(False)
                if self.may_coalesce and self._delivery.takes_flows:
                    self._many.coalesce()
            if self._busy_turns >= BUSY_TURNS or self._delivery.rest:
                self._spin()
        elif self.state is Reading.SPINNING:
            if self._delivery.rest or (read >= QUIET and not self._writing()):
                self._spin()
            else:
                self._busy_turns = 0
                self.poll()
