"""``udpservices top`` as operators run it: in a terminal, and in a pipe."""

import io
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import pytest
from rich.console import Console

from tests.observe.processes import MadeUp, answering, endpoint
from tests.observe.test_collector import full, scraped
from tests.support import BIN, PATIENCE, Process, run, wait_until
from udpservices.top import words
from udpservices.top.figures import quantile, rows
from udpservices.top.reading import Reading, parsed
from udpservices.top.table import Screen

TOP = (BIN / "udpservices", "top")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *arguments: str | os.PathLike[str], columns: int = 140) -> None:
        self.shown = ""
        self._ours, theirs = os.openpty()
        size = {"COLUMNS": str(columns), "LINES": "40", "TERM": "xterm"}
        self._process = subprocess.Popen(
            arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **size}, start_new_session=True
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)

    def shows(self, pattern: str) -> bool:
        """Whether the terminal was shown a match since the last one, colours aside."""
        self._read()
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown)
        if found := re.search(pattern, text):
            self.shown = ""
        return found is not None

    def _read(self) -> None:
        with suppress(OSError):  # nothing new, or the command has ended
            self.shown += os.read(self._ours, 1 << 16).decode(errors="replace")

    def has_ended(self) -> bool:
        self._read()
        return self._process.poll() is not None

    def press(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def status(self) -> int:
        """The exit status, once it has ended."""
        wait_until(self.has_ended, "its end")
        self._read()
        return self._process.returncode

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        os.close(self._ours)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    with closing(Terminal(*TOP, *arguments)) as shown:
        yield shown


def test_table() -> None:
    """One, of all that there is."""
    with answering(full()) as number, terminal(f"http://127.0.0.1:{number}/", "--once", "--interval", "50ms") as top:
        assert top.status() == 0
        assert top.shows(
            r"^udpservices \S+ at 127[^\n]*, the last reload failed\s+"
            r"workers +0 up, lag 2\.0 ms +1 down, replaced 2 times\s+service [^\n]* dropped by reason\s[\s\S]*"
            r"udpecho[^\n]* 100 µs +1\.0 s +1%[^\n]*\s+udptime"
        )


@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (130, "service endpoint in/s out/s drop/s p50 p99 queue err/s dropped by reason"),
        (100, "service endpoint in/s out/s drop/s p50 p99 queue err/s"),
        (80, "service endpoint in/s out/s drop/s p50 p99 queue"),
        (60, "service endpoint in/s drop/s p99"),
        (40, "service in/s drop/s"),
        (1, "…"),
    ],
)
def test_narrow_terminals(columns: int, titles: str) -> None:
    """What matters most has room."""
    shown, reading = io.StringIO(), parsed(scraped(full()).encode(), "server")
    Console(file=shown, width=columns).print(Screen("server", [reading, reading]))
    lines = shown.getvalue().splitlines()
    assert titles.split() in [line.split() for line in lines]
    assert max(map(len, lines)) <= columns


def test_low_terminals() -> None:
    """Those that do most are shown, in their order."""
    process = MadeUp(*(endpoint(f"service{index}", 9000 + index, received=index % 10) for index in range(40)))
    before, now = (parsed(scraped(one).encode(), "server") for one in (MadeUp(), process))
    console = Console(file=io.StringIO(), width=100, height=12)
    lines = console.render_lines(Screen("server", [before, now]), console.options.update(height=12), pad=False)
    told = ["".join(segment.text for segment in line).split() for line in lines]
    names = [words[0] for words in told if words and words[0].startswith("service")]
    assert names == ["service", *(f"service{index}" for index in (8, 9, 18, 19, 28, 29, 39))]
    assert " ".join(told[-1]) == "and 33 more, with less to do"
    assert len(told) == 12


def test_rates_and_drops() -> None:
    """They follow what the process counts, in a terminal that goes on."""
    process = MadeUp(endpoint(received=1000))
    with answering(process) as number, terminal(str(number), "--interval", "100ms") as top:
        wait_until(lambda: top.shows(r"udpecho +127\.0\.0\.1:9999/udp +0 +0 +0 +- +- +1%"), "an idle service")
        assert not top.shows("worker"), "it has none"
        process.change(endpoints=[endpoint(received=10**7, sent=10**6, refused=Counter({"not-allowed": 10**5}))])
        wait_until(lambda: top.shows(r"udpecho .* [\d,]{5,} .*not-allowed [\d,]{5,}"), "rates")


@pytest.mark.parametrize("how", ["q", "Ctrl-C", "SIGTERM"])
def test_ends(how: str) -> None:
    """And leaves the terminal as it was."""
    with answering(MadeUp(endpoint())) as number, terminal(str(number)) as top:
        wait_until(lambda: top.shows("udpecho"), "the table")
        if how == "q":
            top.press(b"q")
        else:
            top.signal(signal.SIGINT if how == "Ctrl-C" else signal.SIGTERM)
        assert top.status() == 0
        assert "\x1b[?1049l" in top.shown
        assert "Traceback" not in top.shown


def test_survives_a_restart() -> None:
    process = MadeUp(endpoint(received=1000))
    with ExitStack() as running:
        with answering(process) as number:
            top = running.enter_context(terminal(str(number), "--interval", "50ms"))
            wait_until(lambda: top.shows("udpecho"), "the table")
        wait_until(lambda: top.shows("Connection refused"), "that nobody answers")
        process.change(started=1.5e9, endpoints=[endpoint("udptime", 3737, received=5)])
        with answering(process, number):
            wait_until(lambda: top.shows(r"udptime +127\.0\.0\.1:3737/udp"), "the one after it")


def test_lines() -> None:
    """One for each service, of all its endpoints."""
    process = MadeUp(endpoint(), endpoint("udpecho", 9998), endpoint("a service", 9997))
    with answering(process) as number:
        told = run(*TOP, str(number), "--once", "--interval", "50ms")
    assert (told.returncode, told.stderr) == (0, "")
    figures = r"received=0 answered=0 dropped=0 errors=0 p50=- p99=- queue=0\.0108173"
    assert re.fullmatch(
        rf'\d\d:\d\d:\d\d service=udpecho {figures}\n\d\d:\d\d:\d\d service="a service" {figures}\n', told.stdout
    )


def test_lines_go_on() -> None:
    process = MadeUp(endpoint())
    with answering(process) as number, Process(*TOP, f"127.0.0.1:{number}", "--interval", "50ms") as top:
        top.wait_for("received=0 ")
        process.change(endpoints=[endpoint(received=10**7, overflowed=10**6)])
        top.wait_for(r"received=[1-9]\S+ answered=0 dropped=([1-9]\S+) dropped\.overflowed=\1 ")
        assert top.stop(signal.SIGINT) == 0
        assert "Traceback" not in top.output


def test_lines_survive_a_restart() -> None:
    """What is wrong is said once."""
    with ExitStack() as running:
        with answering(MadeUp(endpoint())) as number:
            top = running.enter_context(Process(*TOP, str(number), "--interval", "50ms"))
            top.wait_for("udpecho")
        top.wait_for(rf"udpservices top: 127\.0\.0\.1:{number}: Connection refused")
        with answering(MadeUp(endpoint("udptime")), number):
            top.wait_for("udptime")
        assert top.output.count("refused") == 1


def test_nobody_reads() -> None:
    """`udpservices top | head` ends."""
    with answering(MadeUp(endpoint())) as number:
        words = [str(word) for word in (*TOP, str(number), "--interval", "20ms")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as top:
            assert top.stdout is not None
            assert top.stderr is not None
            assert "udpecho" in top.stdout.readline()
            top.stdout.close()
            assert top.wait(PATIENCE) == 0
            assert top.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["99999"], "'99999' must be a port number, ADDR:PORT or http://…, such as 9190"),
        (["ftp://x/"], "'ftp://x/' must be a port number, ADDR:PORT or http://…, such as 9190"),
        (["--interval", "soon"], "--interval soon: must be a duration, such as 10ms, 1.5s or 2m"),
        (["--twice"], "option --twice not recognized"),
        (["1", "2"], "'2' is not expected"),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    told = run(*TOP, *words)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", f"udpservices top: {line}\n")


def test_nobody_answers() -> None:
    with answering(b"") as number:
        pass
    told = run(*TOP, str(number), "--once")
    assert (told.returncode, told.stderr) == (1, f"udpservices top: 127.0.0.1:{number}: Connection refused\n")


@pytest.mark.parametrize("body", [b"hello", b"up 1\n", b"\xff\xfe", b'x{y="', b"", b"udpservices_build_info NaN\n"])
def test_somebody_else_answers(body: bytes) -> None:
    with answering(body) as number:
        told = run(*TOP, str(number))
    line = f"udpservices top: 127.0.0.1:{number}: what answers is no udpservices\n"
    assert (told.returncode, told.stdout, told.stderr) == (1, "", line)


def test_status() -> None:
    with answering(b"", status=404) as number:
        told = run(*TOP, f"http://127.0.0.1:{number}/other")
    line = f"udpservices top: http://127.0.0.1:{number}/other: HTTP status 404\n"
    assert (told.returncode, told.stderr) == (1, line)


@pytest.mark.parametrize("absent", ["rich", "prometheus_client"])
def test_is_an_extra(absent: str) -> None:
    program = f"import sys; sys.modules[{absent!r}] = None; from udpservices.__main__ import run; run(['top'])"
    told = run(sys.executable, "-c", program)
    line = "udpservices top: rich and prometheus-client are not installed: pip install 'udpservices[metrics]'\n"
    assert (told.returncode, told.stderr) == (1, line)


def test_help() -> None:
    told = run(*TOP, "--help")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("Usage: udpservices top")


def test_words() -> None:
    assert [words.rate(one) for one in (0, 0.44, 9.94, 9.96, 1234.6)] == ["0", "0.4", "9.9", "10", "1,235"]
    times = [None, 3e-6, 45e-6, 999.6e-6, 12e-3, 3.0]
    assert [words.seconds(one) for one in times] == ["-", "3.0 µs", "45 µs", "1.0 ms", "12 ms", "3.0 s"]
    assert [words.span(one) for one in (0, 42, 303, 86400, 187200)] == ["0s", "42s", "5m 3s", "1d 0h", "2d 4h"]


def test_quantile() -> None:
    """As Prometheus has it."""
    infinite = float("inf")
    assert quantile({1.0: 10, 2.0: 20, infinite: 20}, 0.75) == 1.5
    assert quantile({1.0: 0, 2.0: 20, infinite: 20}, 0.5) == 1.5
    assert quantile({1.0: 0, 2.0: 0, infinite: 20}, 0.5) == 2.0
    assert quantile({1.0: 0, infinite: 0}, 0.5) is None
    assert quantile({}, 0.5) is None


def test_counters_that_begin_anew() -> None:
    """A service that a reload replaced counts from 0; so does a process that was started again."""

    def reading(when: float, count: float, started: float = 1.0) -> Reading:
        series = (("service", "udpecho"),)
        return Reading(
            when,
            {
                "udpservices_received_datagrams_total": {series: count},
                "udpservices_start_timestamp_seconds": {(): started},
            },
        )

    assert [row.received for row in rows([reading(0, 100), reading(2, 140)], ("service",))] == [20]
    assert [row.received for row in rows([reading(0, 100), reading(2, 40)], ("service",))] == [20]
    assert [row.received for row in rows([reading(0, 100), reading(2, 140, 2.0)], ("service",))] == [70]
