"""When a worker is taken to be unwell, in a time that is turned by hand."""

from dataclasses import dataclass

from udpservices.runtime.workers.supervision import ASKED, BUSY, PAUSE, SILENT, STOPPED, UNREAD, Verdict, Watch

#: Seconds between two looks.
STEP = 0.1


@dataclass
class Double:
    """What is seen of a worker: that which a test says."""

    silence: float = 0.0
    is_stopped: bool = False
    has_waiting: bool = False
    received: int = 0
    is_asked: bool = False


class Watching:
    """Looks ten times a second at a worker."""

    def __init__(self, **seen: object) -> None:
        self.worker = Double(**seen)  # type: ignore[arg-type]
        self.watch = Watch(self.worker)
        self.now = 100.0

    def look(self) -> Verdict:
        self.now += STEP
        return self.watch.look(self.now)

    def for_(self, seconds: float, *, silent: bool = False) -> Verdict:
        """Look for so long; the first verdict that is not good."""
        for _ in range(round(seconds / STEP)):
            self.worker.silence += STEP * silent
            if (verdict := self.look()) is not Verdict.WELL:
                return verdict
        return Verdict.WELL


def test_idle() -> None:
    assert Watching().for_(100) is Verdict.WELL


def test_silent_for_a_while() -> None:
    """A protocol may work for a second and more; longer where nobody waits for it."""
    assert Watching(has_waiting=True).for_(BUSY - 0.2, silent=True) is Verdict.WELL
    assert Watching().for_(SILENT - 0.2, silent=True) is Verdict.WELL


def test_hung() -> None:
    assert Watching(has_waiting=True).for_(BUSY + 0.3, silent=True) is Verdict.HUNG
    assert Watching().for_(SILENT + 0.3, silent=True) is Verdict.HUNG


def test_asked() -> None:
    """Whoever makes ready for other services may take long."""
    assert Watching(is_asked=True, has_waiting=True).for_(ASKED - 0.2, silent=True) is Verdict.WELL
    assert Watching(is_asked=True, has_waiting=True).for_(ASKED + 0.3, silent=True) is Verdict.HUNG


def test_stopped() -> None:
    """At once, but for a debugger's moment."""
    watching = Watching(is_stopped=True)
    assert watching.for_(STOPPED - 0.2, silent=True) is Verdict.WELL
    assert watching.for_(0.4, silent=True) is Verdict.STOPPED


def test_deaf() -> None:
    watching = Watching(has_waiting=True, received=7)
    assert watching.for_(UNREAD - 0.2) is Verdict.WELL
    assert watching.for_(0.5) is Verdict.DEAF


def test_busy() -> None:
    """Something waits at each look, and something was read since the last one."""
    watching = Watching(has_waiting=True)
    for _ in range(100):
        watching.worker.received += 1
        assert watching.for_(UNREAD - 0.5) is Verdict.WELL


def test_empty_now_and_then() -> None:
    watching = Watching(has_waiting=True)
    for _ in range(10):
        assert watching.for_(UNREAD - 0.5) is Verdict.WELL
        watching.worker.has_waiting = False
        watching.look()
        watching.worker.has_waiting = True


def test_everybody_stood_still() -> None:
    """A pause of whoever looks is no silence of whom he looks at; after it, all have their time."""
    watching = Watching(has_waiting=True)
    watching.look()
    watching.now += 100
    watching.worker.silence = 100
    assert watching.for_(BUSY - 0.2, silent=True) is Verdict.WELL
    assert watching.for_(0.5, silent=True) is Verdict.HUNG
    assert PAUSE > 5 * STEP
