"""What can be wrong with ``--group``, ``--share-port`` and the attributes of a class that stand for them."""

from typing import Any, ClassVar

import pytest
from twisted.internet.protocol import DatagramProtocol
from twisted.python.usage import UsageError

from udpservices import DatagramOptions, UDPEndpoint
from udpservices.maker import DatagramServiceMaker
from udpservices.options import GroupOptions
from udpservices.policy.guard.loop_rules import LoopRules


class Sharing(DatagramProtocol):
    share_port = True
    groups: ClassVar[Any] = ("239.1.2.3",)


class Own(Sharing):
    """Has options of its own, and `--interface` is an address of the network interface then."""

    class Options(DatagramOptions):
        pass


class NoGroup(Sharing):
    groups = ("192.0.2.1",)


class OneGroup(Sharing):
    groups = "239.1.2.3"


class Joining(Sharing):
    """Joins by itself."""

    groups = ()


class NotSharing(Sharing):
    """Has groups, which mean something else."""

    share_port = False
    groups = ("admins",)


def options(protocol: type[DatagramProtocol], *words: str) -> Any:
    maker = DatagramServiceMaker("udptest", f"{__name__}.{protocol.__name__}", "Test.")
    found = maker.options()
    found.parseOptions(words)
    maker.check(found)
    return found


def serve(protocol: type[DatagramProtocol], *words: str) -> Any:
    maker = DatagramServiceMaker("udpserve", "udpservices.services.serve.Serve", "Serve.")
    found = maker.options()
    found.parseOptions(["--protocol", f"{__name__}.{protocol.__name__}", *words])
    maker.check(found)
    return found


def test_class_that_shares_has_the_option() -> None:
    assert isinstance(options(Sharing), GroupOptions)
    assert not isinstance(options(NotSharing), GroupOptions)


@pytest.mark.parametrize(
    ("words", "endpoint", "groups"),
    [
        ((), UDPEndpoint(9999, ("0.0.0.0",), shared=True), ("239.1.2.3",)),
        (("--interface", "lo"), UDPEndpoint(9999, ("0.0.0.0",), shared=True), ("239.1.2.3",)),
        (("--group", "ff15::1", "--port", "7"), UDPEndpoint(7, ("::",), shared=True), ("ff15::1",)),
        (
            ("--group", "ff15::1", "--group", "239.1.2.4", "--group", "ff15:0::1"),
            UDPEndpoint(9999, ("::", "0.0.0.0"), shared=True),
            ("ff15::1", "239.1.2.4"),
        ),
    ],
)
def test_listens_at_wildcards(words: tuple[str, ...], endpoint: UDPEndpoint, groups: tuple[str, ...]) -> None:
    for found in (options(Sharing, *words), serve(Sharing, *words)):
        assert found.endpoints == [endpoint]
        assert found.sharing.groups == groups


def test_without_groups_it_listens_where_it_is_told() -> None:
    assert options(Joining).endpoints == [UDPEndpoint(9999, shared=True)]
    assert options(Joining, "--interface", "0.0.0.0").endpoints == [UDPEndpoint(9999, ("0.0.0.0",), shared=True)]
    assert serve(NotSharing, "--share-port").endpoints == [UDPEndpoint(9999, shared=True)]
    assert serve(NotSharing).endpoints == [UDPEndpoint(9999)]


def test_own_options_are_enough() -> None:
    assert options(Own, "--interface", "127.0.0.1").endpoints == [UDPEndpoint(9999, ("0.0.0.0",), shared=True)]


def test_guard_lets_groups_through() -> None:
    assert serve(Sharing).loops == LoopRules(to_many=False)
    assert serve(NotSharing).loops == LoopRules()


@pytest.mark.parametrize(
    ("protocol", "words", "line"),
    [
        (Sharing, ["--group", "192.0.2.1"], "--group 192.0.2.1: is no multicast group: those are "),
        (Sharing, ["--group", "ff02::1%lo"], "--group ff02::1%lo: must be a group alone: "),
        (Sharing, ["--interface", ""], "--interface '': must be the name, the index or an address of a network "),
        (Joining, ["--interface", "lo"], "--interface lo: "),
        (Joining, ["--interface", "192.0.2.1"], "--interface 192.0.2.1: a socket at this address hears no group"),
        (Sharing, ["--listen", "192.0.2.1:9999"], "--listen 192.0.2.1:9999: hears no group and no broadcast"),
        (NotSharing, ["--interface", "lo"], "--interface lo: "),
        (Sharing, ["--workers", "2"], "--workers and a shared port number: each process would answer what is sent"),
        (NoGroup, [], "NoGroup.groups: '192.0.2.1' is no group"),
        (OneGroup, [], None),
    ],
)
def test_mistakes(protocol: type[DatagramProtocol], words: list[str], line: str | None) -> None:
    if line is None:
        assert serve(protocol, *words).sharing.groups == ("239.1.2.3",)
        return
    with pytest.raises(UsageError) as raised:
        serve(protocol, *words)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)
