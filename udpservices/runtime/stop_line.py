"""The last line of a service: what it did, and what an operator must know of it."""

from twisted.logger import Logger

from udpservices.transport.counters import Counters

RESPONDER = "{received} received, {answered} answered, {dropped} dropped"
CLIENT = "{sent} sent, {received} received, {dropped} dropped"

# What follows where it is not zero.
_ERRORS = {
    "protocol_errors": "of the protocol",
    "policy_errors": "of the policies",
    "port_errors": "of the port",
}


def log_stop(log: Logger, label: str, total: Counters, what: str = RESPONDER) -> None:
    """Log that a service stopped; `what` names the counts that every line has, and the event has all of them.

    What came back to who sent it is not told as received.
    """
    counts = {**total.flat(), "received": total.received - total.own, "answered": total.sent}
    text = "{label} stopped: " + what
    if total.overflowed:
        text += " ({overflowed} of them by the kernel, for want of room)"
    for name, whose in _ERRORS.items():
        if count := counts[name]:
            text += f", {{{name}}} {'error' if count == 1 else 'errors'} {whose}"
    log.info(text, label=label, log_stop=True, **counts)
