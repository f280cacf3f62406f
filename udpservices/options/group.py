"""Options of any protocol's service that is to be a member of groups."""

from typing import Any, ClassVar

from udpservices.options.base import Row, coerced, repeated
from udpservices.options.listen import Sharing, host, sharing_of
from udpservices.options.member import group, interface
from udpservices.options.responder import DatagramOptions


class GroupOptions(DatagramOptions):
    """All shared options, and groups: what a protocol has whose class says ``share_port = True``."""

    optFlags: ClassVar[list[Row]] = [
        ["share-port", None, "Share the port number with anybody on this host, as members of groups do."],
    ]

    interface_of = staticmethod(interface)

    def __init__(self) -> None:
        super().__init__()
        self["group"] = []

    opt_group = repeated(
        "group",
        group,
        "Group to join, with --share-port; --interface is the network interface then, by name, index or address. "
        "May repeat.",
    )

    @property
    def spelled_by_listen(self) -> set[str]:
        """With groups, where to listen is not what --interface says."""
        return {"port"} if self["group"] else super().spelled_by_listen

    def sharing_by(self, protocol: Any) -> Sharing | None:
        """The groups of the command line stand in for those of the class."""
        sharing = sharing_of(protocol)
        groups = tuple(dict.fromkeys(self["group"])) or (sharing.groups if sharing else ())
        for one in self["interface"] if not groups else ():
            coerced("interface", host, one)
        return Sharing(groups) if groups or sharing or self["share-port"] else None
