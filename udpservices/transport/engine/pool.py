"""Slots that nobody uses just now. They belong to a reactor: another thread's must not write into them."""

from collections import defaultdict

from udpservices.transport.engine.receive_slots import ReceiveSlots
from udpservices.transport.engine.send_slots import SendSlots


class SlotPool:
    """Idle slots, by what they are for: a reactor needs one of a kind, and one more for a handler that turns it."""

    def __init__(self) -> None:
        #: By the arguments that each was made with.
        self.receive: dict[tuple[int, int, int], list[ReceiveSlots]] = defaultdict(list)
        self.send: dict[tuple[int, int], list[SendSlots]] = defaultdict(list)
