"""The groups of options that members of groups have."""

from collections.abc import Sequence

import attrs
from twisted.python import usage

from udpservices.endpoints import Endpoint, UDPEndpoint
from udpservices.net.addresses import is_multicast, is_wildcard
from udpservices.options.base import repeated
from udpservices.options.guard import AccessOptions
from udpservices.options.impairment import ImpairmentOptions
from udpservices.options.limits import RateOptions
from udpservices.options.listen import SocketOptions
from udpservices.options.run import RunOptions


def _interface(text: str) -> str:
    if not text or "\0" in text or "/" in text:
        raise ValueError("must be the name, the index or an address of a network interface")
    return text


class MemberOptions(SocketOptions, AccessOptions, RateOptions, ImpairmentOptions, RunOptions):
    """The shared options of members of groups, who share their port number with others on every address."""

    opt_interface = opt_i = repeated(
        "interface",
        _interface,
        "Network interface to use, by name, index or address; may repeat. [default: the system's choice]",
    )

    def postOptions(self) -> None:
        """A socket that is bound to an address of this host hears nothing that was sent to many."""
        super().postOptions()
        for endpoint in self["listen"]:
            for address in getattr(endpoint, "interfaces", ()):
                if not (is_wildcard(address) or is_multicast(address)):
                    raise usage.UsageError(
                        f"--listen {endpoint}: hears no group and no broadcast: choose the interface with --interface"
                    )

    def shared_endpoints(self, hosts: Sequence[str]) -> list[Endpoint]:
        """Where the user wants the member to listen: at these wildcards, unless an endpoint has others."""
        return [
            attrs.evolve(endpoint, interfaces=endpoint.interfaces or tuple(hosts), shared=True)
            if isinstance(endpoint, UDPEndpoint)
            else endpoint
            for endpoint in self["listen"] or [UDPEndpoint(self["port"])]
        ]
