"""The groups of options that members of groups have."""

from udpservices.net.addresses import is_multicast, parse_host
from udpservices.net.groups import canonical
from udpservices.options.base import repeated
from udpservices.options.guard import AccessOptions
from udpservices.options.impairment import ImpairmentOptions
from udpservices.options.limits import RateOptions
from udpservices.options.listen import SocketOptions
from udpservices.options.run import RunOptions


def interface(text: str) -> str:
    """A network interface by its name, its index or an address of it. Raises ValueError for what can be none."""
    if not text or "\0" in text or "/" in text:
        raise ValueError("must be the name, the index or an address of a network interface")
    return text


def group(text: str) -> str:
    """A group by its address. Raises ValueError."""
    if not is_multicast(text):
        raise ValueError("is no multicast group: those are 224.0.0.0 to 239.255.255.255, and ff00::/8")
    if parse_host(text).scope:
        raise ValueError("must be a group alone: its network interface is for --interface")
    return canonical(text)


class MemberOptions(SocketOptions, AccessOptions, RateOptions, ImpairmentOptions, RunOptions):
    """The shared options of members of groups, who share their port number with others on every address."""

    opt_interface = opt_i = repeated(
        "interface",
        interface,
        "Network interface to use, by name, index or address; may repeat. [default: the system's choice]",
    )

    def postOptions(self) -> None:
        """A socket that is bound to an address of this host hears nothing that was sent to many."""
        super().postOptions()
        self.check_shared()
