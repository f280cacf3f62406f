"""What udpshout answers, tried without a socket."""

from udpshout import Shout

from udpservices.testing import connect

PEER = ("192.0.2.7", 5000)


def test_answers_in_capitals() -> None:
    """A datagram goes back in capitals to whoever sent it."""
    protocol = Shout()
    transport = connect(protocol)
    protocol.datagramReceived(b"hello", PEER)
    assert transport.written == [(b"HELLO", PEER)]


def test_is_a_reflector() -> None:
    """The guard against loops and the default limit are for those that say so."""
    assert Shout.reflector


def test_suffix_ends_each_answer() -> None:
    """The command's own option reaches the protocol."""
    options = Shout.Options()
    options.parseOptions(["--suffix", "!"])
    protocol = Shout.fromOptions(options, None)
    transport = connect(protocol)
    protocol.datagramReceived(b"hello", PEER)
    assert transport.written == [(b"HELLO!", PEER)]
