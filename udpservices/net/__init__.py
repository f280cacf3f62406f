"""What the kernel knows and no port does: addresses, interfaces, sockets and their options, filters, names.

What stands in ``__all__`` is for protocols of other packages too: it keeps its name and its meaning.
"""

from udpservices.net.addresses import endpoint_text, is_literal, split_target
from udpservices.net.resolve import resolve as resolve_host  # the name of the module stays the module's

__all__ = ["endpoint_text", "is_literal", "resolve_host", "split_target"]
