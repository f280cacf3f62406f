"""``twistd udphello`` and what it stands on: a client that keeps in touch with one peer, whatever becomes of that."""

import errno
import os
from random import Random

import pytest
from twisted.python.usage import UsageError

from tests.services.commands import refusal
from tests.services.greeting import NAME, Greeting, Share, complaints, started
from tests.support import logged, text
from udpservices.runtime.client import MAX_UNANSWERED
from udpservices.services.hello import Helloer


class TestGreeting:
    """A connected transport needs no address, and its greetings go on."""

    def test_at_once_and_every_interval(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            assert greeting.reactor.transports[0].written == [(b"Hello!", None)]
            for number in range(2, 10):
                greeting.reply()
                assert greeting.wait() == 1.0
                assert greeting.greetings == number
        assert greeting.peers == ["192.0.2.1"]
        replies = [text(event) for event in events if "got" in text(event)]
        assert replies == ["udphello got b'Hello yourself!' from 192.0.2.1:9999"] * 8

    def test_of_a_long_reply_the_start_is_logged(self) -> None:
        """A peer decides how long its replies are, and must not decide how long the log gets."""
        greeting = Greeting()
        with started(greeting) as events:
            greeting.reply(b"x" * 60_000)
        assert max(len(text(event)) for event in events) < 200

    def test_a_peer_that_sends_without_end_does_not_fill_the_log(self) -> None:
        """It has a line for each greeting, and what is more is counted: once a minute, and at the end."""
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(150):
                for _ in range(20):
                    greeting.reply()
                greeting.reactor.advance(1.0)
            assert greeting.greetings == 151
        said = [text(event) for event in events if "got" in text(event)]
        more = [line for line in said if " more " in line]
        assert len(said) - len(more) == 150
        assert more == [
            f"udphello got {count} more replies than it sent greetings, in the last {seconds} s"
            for count, seconds in ((60 * 19, 60), (60 * 19, 60), (30 * 19, 30))
        ]

    def test_replies_that_are_late_are_not_too_many(self) -> None:
        """None is lost from the log where the way there and back takes longer than an interval."""
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(10):
                assert greeting.wait() == 1.0
                greeting.reply()
                greeting.reply()
                assert greeting.wait() == 1.0
        assert len([event for event in events if "got b'" in text(event)]) == 20
        assert not [event for event in events if "more" in text(event)]

    @pytest.mark.parametrize(("host", "wildcard"), [("192.0.2.1", "0.0.0.0"), ("2001:db8::1", "::")])
    def test_from_any_address_of_the_family(self, host: str, wildcard: str) -> None:
        """The kernel chooses source address and port number."""
        greeting = Greeting(host)
        with started(greeting):
            assert greeting.reactor.transports[0].getHost().host == wildcard
            assert greeting.names.asked == []


class TestRefusal:
    """Nobody is hammered because nobody listens, and nothing is said twice."""

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_attempts_are_further_and_further_apart(self, share: float) -> None:
        """The time doubles from the interval to the longest; the jitter takes up to half of it away."""
        greeting = Greeting(random=Share(share))
        waited = []
        with started(greeting):
            for _ in range(6):
                greeting.refuse()
                waited.append(greeting.wait())
        assert waited == [longest * (0.5 + share / 2) for longest in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0)]

    def test_clients_that_were_refused_together_do_not_return_together(self) -> None:
        waited = set()
        for seed in range(10):
            greeting = Greeting(random=Random(seed))
            with started(greeting):
                greeting.refuse()
                waited.add(greeting.wait())
        assert len(waited) == 10
        assert all(0.5 <= seconds <= 1.0 for seconds in waited)

    def test_a_reply_ends_the_waiting(self) -> None:
        greeting = Greeting()
        with started(greeting):
            for _ in range(5):
                greeting.refuse()
                greeting.wait()
            greeting.reply()
            greeting.refuse()
            assert greeting.wait() == 1.0

    def test_is_logged_once_until_a_reply(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(2):
                for _ in range(10):
                    greeting.refuse()
                    greeting.wait()
                greeting.reply()
        assert complaints(events) == ["no one listening on 192.0.2.1:9999"] * 2

    def test_other_errors_of_the_network_are_called_by_their_name(self) -> None:
        greeting = Greeting("2001:db8::1")
        with started(greeting) as events:
            for number in (errno.EHOSTUNREACH, errno.EACCES, errno.EHOSTUNREACH):
                greeting.callers[-1].errorReceived(OSError(number, os.strerror(number)))
                greeting.wait()
        assert complaints(events) == [
            "cannot reach [2001:db8::1]:9999: No route to host",
            "cannot reach [2001:db8::1]:9999: Permission denied",
        ]

    def test_what_is_told_of_an_attempt_that_was_given_up_is_old_news(self) -> None:
        """A second ICMP error must not end the attempt that the first one began."""
        greeting = Greeting()
        with started(greeting):
            greeting.refuse()
            greeting.wait()
            greeting.callers[0].connectionRefused()
            assert greeting.open_ports == 1
            assert greeting.wait() == 1.0
            assert greeting.greetings == 2

    def test_a_port_is_closed_before_the_next_is_opened(self) -> None:
        greeting = Greeting()
        with started(greeting):
            for number in range(1, 20):
                assert (len(greeting.reactor.transports), greeting.open_ports) == (number, 1)
                greeting.refuse()
                assert greeting.open_ports == 0
                greeting.wait()


class TestSilence:
    """A peer that does not answer may be gone, or its name may have moved."""

    def test_is_logged_once_and_begins_a_new_attempt(self) -> None:
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(MAX_UNANSWERED):
                assert greeting.open_ports == 1
                assert greeting.wait() == 1.0
            assert greeting.reactor.transports[0].written == [(b"Hello!", None)] * MAX_UNANSWERED
            assert greeting.open_ports == 0
            assert greeting.wait() == 1.0
            for _ in range(MAX_UNANSWERED):
                assert greeting.wait() == 1.0
            assert greeting.wait() == 2.0
            assert len(greeting.peers) == 3
        assert complaints(events) == ["no answer from 192.0.2.1:9999"]

    def test_is_over_with_a_reply(self) -> None:
        """One reply in a while is enough."""
        greeting = Greeting()
        with started(greeting) as events:
            for _ in range(10):
                for _ in range(MAX_UNANSWERED - 1):
                    greeting.wait()
                greeting.reply()
        assert len(greeting.peers) == 1
        assert complaints(events) == []


class TestStopping:
    """Whatever it was doing, nothing is left of it, and it can be started again."""

    def test_while_looking_up(self) -> None:
        """The resolver's answer comes too late."""
        greeting = Greeting(NAME)
        greeting.names.slow = True
        greeting.names.known[NAME] = ["192.0.2.1"]
        with started(greeting) as events:
            pass
        greeting.names.answer()
        assert (greeting.reactor.getDelayedCalls(), greeting.reactor.transports) == ([], [])
        assert complaints(events) == []

    def test_while_waiting(self) -> None:
        greeting = Greeting()
        with started(greeting):
            greeting.refuse()
        assert (greeting.reactor.getDelayedCalls(), greeting.open_ports) == ([], 0)

    def test_while_connected(self) -> None:
        greeting = Greeting()
        with started(greeting):
            pass
        assert (greeting.reactor.getDelayedCalls(), greeting.open_ports) == ([], 0)

    def test_and_starting_again(self) -> None:
        """From the beginning: counters, times and complaints are new."""
        greeting = Greeting()
        for number in (1, 2, 3):
            with started(greeting) as events:
                greeting.refuse()
                assert greeting.wait() == 1.0
                greeting.refuse()
                assert greeting.wait() == 2.0
            assert complaints(events) == ["no one listening on 192.0.2.1:9999"]
            assert text(events[-1]) == "udphello stopped: 3 sent, 0 received, 0 dropped"
            assert len(greeting.peers) == 3 * number

    def test_before_it_was_started(self) -> None:
        """As happens when another service of the same process cannot be bound."""
        greeting = Greeting()
        with logged() as events:
            greeting.service.stopService()
        assert events == []


class TestOptions:
    def test_defaults(self) -> None:
        options = Helloer.Options()
        options.parseOptions(["--target", "localhost:9999"])
        assert dict(options) == {
            "target": ("localhost", 9999),
            "message": "Hello!",
            "interval": 1.0,
            "max-interval": 60.0,
            "once": 0,
            "timeout": 1.0,
        }

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            ([], "--target is missing: HOST:PORT, whom to greet"),
            (["--target", "localhost"], "--target localhost: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", ":9"], "--target :9: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", "::1:9"], "--target ::1:9: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--target", "[::x]:9"], "--target [::x]:9: '::x' is not an IPv4 or IPv6 address"),
            (["--target", "h:0"], "--target h:0: must have a port number from 1 to 65535"),
            (["--target", "h:65536"], "--target h:65536: must have a port number from 1 to 65535"),
            (["--target", "h:x"], "--target h:x: must be HOST:PORT, or [ADDRESS]:PORT for IPv6"),
            (["--interval", "0s"], "--interval 0s: must be a duration above 0, such as 10ms, 1.5s or 2m"),
            (["--interval", "-1"], "--interval -1: must be a duration, such as 10ms, 1.5s or 2m"),
            (["--max-interval", "0"], "--max-interval 0: must be a duration above 0, such as 10ms, 1.5s or 2m"),
            (
                ["--target", "h:9", "--interval", "2m"],
                "--interval 120s: must not be longer than --max-interval, which is 60s",
            ),
            (
                ["--target", "h:9", "--max-interval", "10ms"],
                "--interval 1s: must not be longer than --max-interval, which is 0.01s",
            ),
            (["--target", "h:9", "--port", "9"], "option --port not recognized"),
            (["--target", "h:9", "hello"], "'hello' is not expected: give options, such as --port 9999"),
        ],
    )
    def test_mistakes(self, words: list[str], why: str) -> None:
        """Each names the option and its value, and says what would be right."""
        with pytest.raises(UsageError) as caught:
            Helloer.Options().parseOptions(words)
        assert str(caught.value).startswith(why)

    def test_message_that_fits_no_datagram(self) -> None:
        with pytest.raises(UsageError, match="must not be longer than 65000 bytes"):
            Helloer.Options().parseOptions(["--target", "h:9", "--message", "x" * 65_001])

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ([], "udphello: --target is missing: HOST:PORT, whom to greet"),
            (["--target", "h:0"], "udphello: --target h:0: must have a port number from 1 to 65535"),
        ],
    )
    def test_a_mistake_is_one_line_and_status_1(self, words: list[str], line: str) -> None:
        assert refusal("udphello", *words) == line
