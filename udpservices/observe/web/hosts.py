"""Whether a request may name the host that it names.

A page of somebody else's can have its own name lead to a loopback address, and have the browser ask there in that name
(DNS rebinding): the answer is then the page's to read. Who connects to loopback names an address, or ``localhost``.
"""

import ipaddress
import re
from typing import Any

from udpservices.net.addresses import is_literal

_HOST = re.compile(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::[0-9]{0,5})?")


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, ``::ffff:127.0.0.1`` among them."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def may_name(local: Any, host: str) -> bool:
    """Whether a request by a connection to this address of ours (Twisted's) may have this Host (RFC 9110 7.2)."""
    if not is_loopback(getattr(local, "host", "")):
        return True
    match = _HOST.fullmatch(host.strip())
    if match is None:
        return False
    name = match[1] or match[2] or ""
    return name.lower().rstrip(".") == "localhost" or is_literal(name)
